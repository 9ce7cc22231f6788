package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
)

// How long etcd may take to elect itself.
const startTimeout = time.Minute

// etcd is one member without TLS, for loopback. It does not sync to disk: a crash of the machine loses the data of a
// test, a crash of the process does not.
func etcd() *cobra.Command {
	var dataDir, clientURL, peerURL string
	command := &cobra.Command{
		Use:           "etcd",
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(*cobra.Command, []string) error { return serveEtcd(dataDir, clientURL, peerURL) },
	}
	command.Flags().StringVar(&dataDir, "data-dir", "etcd", "folder of the data")
	command.Flags().StringVar(&clientURL, "client-url", "http://127.0.0.1:2379", "URL for clients")
	command.Flags().StringVar(&peerURL, "peer-url", "http://127.0.0.1:2380", "URL for peers")
	return command
}

func serveEtcd(dataDir, clientURL, peerURL string) error {
	client, err := url.Parse(clientURL)
	if err != nil {
		return fmt.Errorf("--client-url: %w", err)
	}
	peer, err := url.Parse(peerURL)
	if err != nil {
		return fmt.Errorf("--peer-url: %w", err)
	}
	config := embed.NewConfig()
	config.Dir, config.Name, config.LogLevel = dataDir, "lab", "warn"
	config.UnsafeNoFsync = true
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
	case <-time.After(startTimeout):
		return errors.New("etcd is not ready in time")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-stop:
		return nil
	case err := <-server.Err():
		return err
	}
}

// etcdCompact forgets every revision but the newest, so that an older watch ends with "410 Gone".
func etcdCompact() *cobra.Command {
	var clientURL string
	command := &cobra.Command{
		Use:          "etcd-compact",
		SilenceUsage: true,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(command.Context(), startTimeout)
			defer cancel()
			client, err := clientv3.New(clientv3.Config{Endpoints: []string{clientURL}})
			if err != nil {
				return err
			}
			defer client.Close()
			newest, err := client.Get(ctx, "any", clientv3.WithCountOnly())
			if err != nil {
				return err
			}
			_, err = client.Compact(ctx, newest.Header.Revision, clientv3.WithCompactPhysical())
			return err
		},
	}
	command.Flags().StringVar(&clientURL, "client-url", "http://127.0.0.1:2379", "URL of etcd")
	return command
}
