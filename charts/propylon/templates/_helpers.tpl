{{/* Name of the application. */}}
{{- define "propylon.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Prefix of the names of all objects: `propylon` for a release of that name. 40 characters leave room for what follows. */}}
{{- define "propylon.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "propylon.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "propylon.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "propylon.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/* Prefix of the names of objects that have no namespace, so that two releases of one name do not meet. */}}
{{- define "propylon.clusterName" -}}
{{- printf "%s-%s" (include "propylon.namespace" .) (include "propylon.fullname" .) -}}
{{- end -}}

{{/* Labels by which selectors find the pods of a component: (dict "root" . "component" "controller"). */}}
{{- define "propylon.selectorLabels" -}}
app.kubernetes.io/name: {{ include "propylon.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* All labels: (dict "root" . "component" "controller" "extra" .Values.proxy.podLabels), component and extra where there are. */}}
{{- define "propylon.labels" -}}
{{- $root := .root -}}
{{- $chart := printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- $labels := dict "helm.sh/chart" $chart "app.kubernetes.io/name" (include "propylon.name" $root) "app.kubernetes.io/instance" $root.Release.Name "app.kubernetes.io/version" $root.Chart.AppVersion "app.kubernetes.io/part-of" "propylon" "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- with .component -}}
{{- $_ := set $labels "app.kubernetes.io/component" . -}}
{{- end -}}
{{- merge $labels (deepCopy (default dict .extra)) (deepCopy $root.Values.commonLabels) | toYaml -}}
{{- end -}}

{{- define "propylon.image" -}}
{{- $image := .Values.image -}}
{{- $registry := default $image.registry .Values.global.imageRegistry -}}
{{- $name := ternary (printf "%s/%s" $registry $image.repository) $image.repository (ne $registry "") -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Name of the ServiceAccount of a component. */}}
{{- define "propylon.serviceAccountName" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
{{- default (printf "%s-%s" (include "propylon.fullname" .root) .component) $account.name -}}
{{- else -}}
{{- default "default" $account.name -}}
{{- end -}}
{{- end -}}

{{/* "true" where the proxies are on the host's network. */}}
{{- define "propylon.hostNetwork" -}}
{{- $proxy := .Values.proxy -}}
{{- if kindIs "bool" $proxy.hostNetwork -}}
{{- ternary "true" "" $proxy.hostNetwork -}}
{{- else if and (eq $proxy.kind "DaemonSet") (not $proxy.hostPort.enabled) -}}
true
{{- end -}}
{{- end -}}

{{/* "true" where the next proxy takes over the listening sockets of the one before. */}}
{{- define "propylon.takeover" -}}
{{- if and (include "propylon.hostNetwork" .) .Values.proxy.takeover.enabled -}}
true
{{- end -}}
{{- end -}}

{{/* "true" where the chart makes a Service in front of the proxies. */}}
{{- define "propylon.proxyService" -}}
{{- $enabled := .Values.proxy.service.enabled -}}
{{- if kindIs "bool" $enabled -}}
{{- ternary "true" "" $enabled -}}
{{- else if not (or (include "propylon.hostNetwork" .) .Values.proxy.hostPort.enabled) -}}
true
{{- end -}}
{{- end -}}

{{/* Folder of the host for the hand-over. */}}
{{- define "propylon.takeoverPath" -}}
{{- default (printf "/run/propylon/%s-%s" (include "propylon.namespace" .) (include "propylon.fullname" .)) .Values.proxy.takeover.hostPath -}}
{{- end -}}

{{/* A duration such as `90s` or `2m`, in seconds. */}}
{{- define "propylon.seconds" -}}
{{- if hasSuffix "m" . -}}
{{- mul 60 (trimSuffix "m" . | int) -}}
{{- else -}}
{{- trimSuffix "s" . | int -}}
{{- end -}}
{{- end -}}

{{/* Fields of a pod's spec that every workload has: (dict "root" . "component" "proxy"). */}}
{{- define "propylon.placement" -}}
{{- $values := index .root.Values .component -}}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .spread }}
topologySpreadConstraints:
{{- if $values.topologySpreadConstraints }}
  {{- toYaml $values.topologySpreadConstraints | nindent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "propylon.selectorLabels" . | nindent 8 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Security context of a container that needs nothing. */}}
{{- define "propylon.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Annotations of a pod, with those by which scrapers without the Prometheus operator find it: (dict "root" . "own" ...). */}}
{{- define "propylon.podAnnotations" -}}
{{- $metrics := .root.Values.metrics -}}
{{- $annotations := dict -}}
{{- if and $metrics.enabled $metrics.podAnnotations (not $metrics.serviceMonitor.enabled) (not $metrics.podMonitor.enabled) -}}
{{- $annotations = dict "prometheus.io/scrape" "true" "prometheus.io/port" "8081" "prometheus.io/path" "/metrics" -}}
{{- end -}}
{{- with mergeOverwrite $annotations .own -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}
