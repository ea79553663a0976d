{{- define "posewatch.namespaces" -}}
{{- range . }}
- namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ . | quote }}}}
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

{{/* To the receivers of alarms and Frigate's broker: the ports of networkPolicy.egress.webhook, and those of the watchers' addresses. */}}
{{- define "posewatch.toReceivers" -}}
{{- $known := dict "http" 80 "https" 443 "cloudevents+http" 80 "cloudevents+https" 443 "frigate+http" 80 "frigate+https" 443 "onvif+http" 80 "onvif+https" 443 "mqtt" 1883 "mqtts" 8883 "syslog" 514 "syslog+tcp" 601 "syslog+tls" 6514 }}
{{- $ports := list }}
{{- range .Values.networkPolicy.egress.webhook.ports }}{{ $ports = append $ports (dict "port" (int .)) }}{{ end }}
{{- range $told := prepend (values .Values.watcher.groups) .Values.watcher }}
{{- range list $told.webhook $told.frigate }}
{{- with . }}
{{- $scheme := splitList "://" . | first | lower }}
{{- $place := regexReplaceAll "^[^:]+://(?:.*@)?([^/?]*).*$" . "${1}" }}
{{- $port := regexFind ":[0-9]+$" $place | trimPrefix ":" | default (get $known $scheme) | int }}
{{- $ports = append $ports (ternary (dict "port" $port "protocol" "UDP") (dict "port" $port) (eq $scheme "syslog")) | uniq }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.networkPolicy.egress.webhook }}
{{- if or .cidrs .namespaces }}
- to:
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
    {{- include "posewatch.namespaces" .namespaces | nindent 4 }}
  ports:
    {{- range $ports }}
    - {{ toJson . }}
    {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* To the models of other servers that the values name. A policy counts the port of the pod, not of its Service: inside the
     cluster those of Triton and KServe too. */}}
{{- define "posewatch.toModels" -}}
{{- $seen := list "" }}
{{- range $told := prepend (values .Values.watcher.groups) .Values.watcher }}
{{- $place := regexReplaceAll "^[a-z]+://([^/]*).*$" ($told.model | default "") "${1}" }}
{{- $port := regexFind ":[0-9]+$" $place | trimPrefix ":" | int }}
{{- if and (not $port) (regexMatch "^(https|grpcs)://" ($told.model | default "")) }}
{{- $port = 443 }}
{{- end }}
{{- if and $port (not (has $place $seen)) }}
{{- $seen = append $seen $place }}
{{- $host := regexReplaceAll ":[0-9]+$" $place "" | trimAll "[]" }}
{{- $parts := splitList "." $host }}
{{- $inside := or (eq (len $parts) 2) (and (gt (len $parts) 2) (eq (index (append $parts "") 2) "svc")) }}
{{- if contains ":" $host }}
- to: [{ipBlock: {cidr: "{{ $host }}/128"}}]
  ports: [{port: {{ $port }}}]
{{- else if regexMatch "^[0-9.]+$" $host }}
- to: [{ipBlock: {cidr: {{ $host }}/32}}]
  ports: [{port: {{ $port }}}]
{{- else }}
{{- if or $inside (eq (len $parts) 1) }}
- to: [{{ if $inside }}{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ index $parts 1 | quote }}}}}{{ else }}{podSelector: {}}{{ end }}]
  ports:
    {{- range list $port 8000 8001 8080 9000 | uniq }}
    - {port: {{ . }}}
    {{- end }}
{{- end }}
{{- if and (gt (len $parts) 1) (or (not $inside) (eq (len $parts) 2)) }}
- to: [{ipBlock: {cidr: 0.0.0.0/0}}]
  ports: [{port: {{ $port }}}]
{{- end }}
{{- end }}
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
