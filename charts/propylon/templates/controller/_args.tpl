{{/* Arguments of propylon-controller, as a YAML list; everything that may change while it runs stands in its file. */}}
{{- define "propylon.controllerArgs" -}}
- --config=/etc/propylon/config/propylon.yaml
- --proxy-service-account={{ include "propylon.serviceAccountName" (dict "root" . "component" "proxy") }}
{{- if eq .Values.secrets.scope "Namespaces" }}
- --secrets-scope={{ join "," .Values.secrets.namespaces }}
{{- end }}
{{- range .Values.controller.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}
