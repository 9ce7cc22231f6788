{{/* The template of a proxy's pod, for a DaemonSet and a Deployment. */}}
{{- define "propylon.proxyPod" -}}
{{- $proxy := .Values.proxy -}}
{{- $hostNetwork := include "propylon.hostNetwork" . -}}
{{- $takeover := include "propylon.takeover" . -}}
metadata:
  labels:
    {{- include "propylon.labels" (dict "root" . "component" "proxy" "extra" $proxy.podLabels) | nindent 4 }}
  {{- with include "propylon.podAnnotations" (dict "root" . "own" $proxy.podAnnotations) }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "propylon.serviceAccountName" (dict "root" . "component" "proxy") }}
  # No right in Kubernetes: the one token that is mounted is refused by the API server (audience propylon-controller).
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- if $hostNetwork }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  terminationGracePeriodSeconds: {{ $proxy.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  {{- with include "propylon.placement" (dict "root" . "component" "proxy" "spread" (eq $proxy.kind "Deployment")) | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if or $takeover $proxy.extraInitContainers }}
  initContainers:
    {{- if $takeover }}
    # The kubelet makes the folder as root with mode 0755; the proxy needs it as its own, for nobody else.
    - name: prepare
      image: {{ include "propylon.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [/propylon-proxy]
      args: [prepare, --directory=/run/propylon, --uid=65532, --gid=65532]
      securityContext:
        runAsNonRoot: false
        runAsUser: 0
        runAsGroup: 0
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
          # The last one because the program's file has it: without it the kernel refuses to start the file.
          add: [CHOWN, FOWNER, NET_BIND_SERVICE]
      resources:
        requests:
          cpu: 10m
          memory: 16Mi
        limits:
          memory: 64Mi
      volumeMounts:
        - name: takeover
          mountPath: /run/propylon
    {{- end }}
    {{- with $proxy.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: proxy
      image: {{ include "propylon.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [/propylon-proxy]
      args:
        {{- include "propylon.proxyArgs" . | nindent 8 }}
      env:
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: PROPYLON_NODE
          valueFrom:
            fieldRef:
              fieldPath: spec.nodeName
        # Where probes and metrics are answered.
        - name: {{ ternary "HOST_IP" "POD_IP" (ne $hostNetwork "") }}
          valueFrom:
            fieldRef:
              fieldPath: {{ ternary "status.hostIP" "status.podIP" (ne $hostNetwork "") }}
        {{- with $proxy.log }}
        - name: PROPYLON_LOG
          value: {{ . | quote }}
        {{- end }}
        {{- with $proxy.extraEnvs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if not $hostNetwork }}
      ports:
        - name: http
          containerPort: {{ $proxy.containerPorts.http }}
          {{- if $proxy.hostPort.enabled }}
          hostPort: {{ $proxy.hostPort.ports.http }}
          {{- with $proxy.hostPort.hostIP }}
          hostIP: {{ . }}
          {{- end }}
          {{- end }}
        - name: https
          containerPort: {{ $proxy.containerPorts.https }}
          {{- if $proxy.hostPort.enabled }}
          hostPort: {{ $proxy.hostPort.ports.https }}
          {{- with $proxy.hostPort.hostIP }}
          hostIP: {{ . }}
          {{- end }}
          {{- end }}
        - name: status
          containerPort: {{ 8081 }}
      {{- end }}
      # Not by httpGet: on the host's network the pod before would answer for a new one that is broken.
      startupProbe:
        exec:
          command: [/propylon-proxy, probe, --socket=/var/lib/propylon/status.sock, startupz]
        periodSeconds: 1
        timeoutSeconds: 3
        failureThreshold: 300
      livenessProbe:
        exec:
          command: [/propylon-proxy, probe, --socket=/var/lib/propylon/status.sock, livez]
        periodSeconds: 10
        timeoutSeconds: 5
      readinessProbe:
        exec:
          command: [/propylon-proxy, probe, --socket=/var/lib/propylon/status.sock, readyz]
        periodSeconds: 2
        timeoutSeconds: 3
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
          # Ports below 1024; and the program's file has the capability: without it the kernel refuses to start the file.
          # The Pod Security level "restricted" allows this one.
          add: [NET_BIND_SERVICE]
      {{- with $proxy.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: state
          mountPath: /var/lib/propylon
        - name: token
          mountPath: /var/run/secrets/propylon
          readOnly: true
        - name: trust
          mountPath: /etc/propylon/trust
          readOnly: true
        {{- if $takeover }}
        - name: takeover
          mountPath: /run/propylon
        {{- end }}
        {{- with $proxy.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $proxy.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    # In memory: the configuration holds the keys of certificates.
    - name: state
      emptyDir:
        medium: Memory
        sizeLimit: {{ $proxy.snapshot.sizeLimit }}
    - name: token
      projected:
        # 0440
        defaultMode: 288
        sources:
          - serviceAccountToken:
              audience: propylon-controller
              expirationSeconds: 3600
              path: token
    # Made by the controller's leader. At the first start the pod waits for it: an optional volume would be filled by the
    # kubelet's next look only, a minute later.
    - name: trust
      configMap:
        name: propylon-trust
    {{- if $takeover }}
    - name: takeover
      hostPath:
        path: {{ include "propylon.takeoverPath" . }}
        type: DirectoryOrCreate
    {{- end }}
    {{- with $proxy.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
