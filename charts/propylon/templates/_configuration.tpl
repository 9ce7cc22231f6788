{{/* The controller's file of settings: what `config` says, and the values that are settings of the controller too. */}}
{{- define "propylon.configuration" -}}
{{- $lb := dict "serveClassless" .Values.lb.serveClassless "pools" .Values.lb.pools -}}
{{- with .Values.lb.defaultPath -}}
{{- $_ := set $lb "defaultPath" . -}}
{{- end -}}
{{- with .Values.lb.nodeAddressPorts -}}
{{- $_ := set $lb "nodeAddressPorts" . -}}
{{- end -}}
{{- $own := dict "lb" $lb "status" (dict "mode" .Values.status.mode) -}}
{{- $class := .Values.ingressClass -}}
{{- if or $class.adopt (ne $class.controllerValue "propylon.dev/ingress-controller") -}}
{{- $_ := set $own "ingressClasses" (prepend $class.adopt $class.name) -}}
{{- end -}}
{{- if .Values.status.addresses -}}
{{- $_ := set $own "publishAddresses" .Values.status.addresses -}}
{{- else if include "propylon.proxyService" . -}}
{{- $_ := set $own "publishService" (printf "%s/%s-proxy" (include "propylon.namespace" .) (include "propylon.fullname" .)) -}}
{{- end -}}
{{- mergeOverwrite (deepCopy .Values.config) $own | toYaml -}}
{{- end -}}
