{{/* Arguments of propylon-proxy, one per line of a YAML list. */}}
{{- define "propylon.proxyArgs" -}}
{{- $proxy := .Values.proxy -}}
{{- $hostNetwork := include "propylon.hostNetwork" . -}}
{{- $ports := ternary $proxy.hostNetworkPorts $proxy.containerPorts (ne $hostNetwork "") -}}
- --controller={{ include "propylon.fullname" . }}-controller.{{ include "propylon.namespace" . }}.svc:7443
{{- range list "0.0.0.0" "[::]" }}
- --http={{ . }}:{{ $ports.http }}
{{- end }}
{{- range list "0.0.0.0" "[::]" }}
- --https={{ . }}:{{ $ports.https }}
{{- end }}
- --https-public-port={{ ternary $proxy.hostNetworkPorts.https (ternary $proxy.hostPort.ports.https $proxy.service.ports.https $proxy.hostPort.enabled) (ne $hostNetwork "") }}
- --admin=127.0.0.1:{{ $proxy.adminPort }}
- --status-socket=/var/lib/propylon/status.sock
- --snapshot=/var/lib/propylon/snapshot
{{- if include "propylon.takeover" . }}
- --takeover=/run/propylon/takeover.sock
- --takeover-linger=1h
{{- end }}
- --drain-accept-grace={{ $proxy.drain.acceptGrace }}
- --drain-timeout={{ $proxy.drain.timeout }}
- --access-log={{ ternary "-" "off" $proxy.accessLog.enabled }}
- --access-log-format={{ $proxy.accessLog.format }}
{{- with $proxy.trustedProxies }}
- --trusted-proxies={{ join "," . }}
{{- end }}
{{- with $proxy.proxyProtocol }}
- --proxy-protocol={{ join "," . }}
{{- end }}
{{- range $proxy.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}
