{{- define "posewatch.namespaces" -}}
{{- range . }}
- namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ . }}}}
{{- end }}
{{- end -}}

{{/* One egress rule from {cidrs, namespaces, ports}; nothing where there is nowhere to go. */}}
{{- define "posewatch.egress" -}}
{{- if or .cidrs .namespaces }}
- to:
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
    {{- include "posewatch.namespaces" .namespaces | nindent 4 }}
  ports:
    {{- range .ports }}
    - {port: {{ . }}}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "posewatch.toStore" -}}
{{- if .Values.store.enabled }}
- to: [{podSelector: {matchLabels: {{ include "posewatch.selector" (dict "root" . "component" "store") | fromYaml | toJson }}}}]
  ports: [{port: 8333}]
{{- else }}
{{- include "posewatch.egress" .Values.networkPolicy.egress.store }}
{{- end }}
{{- end -}}

{{- define "posewatch.toDatabase" -}}
{{- if .Values.postgresql.enabled }}
- to: [{podSelector: {matchLabels: {{ include "posewatch.selector" (dict "root" . "component" "postgresql") | fromYaml | toJson }}}}]
  ports: [{port: 5432}]
{{- else }}
{{- include "posewatch.egress" .Values.networkPolicy.egress.database }}
{{- end }}
{{- end -}}
