{{/* Names are fixed: pipelines, `posewatch deploy` and TrainJobs look for them. */}}

{{/* Labels that never change, of a component: (dict "root" $ "component" "labeling") */}}
{{- define "posewatch.selector" -}}
app.kubernetes.io/name: posewatch-{{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- end -}}

{{- define "posewatch.labels" -}}
{{ include "posewatch.selector" . }}
app.kubernetes.io/part-of: posewatch
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ include "posewatch.tag" .root | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "posewatch.tag" -}}
{{- .Values.images.tag | default .Chart.AppVersion -}}
{{- end -}}

{{/* An image of ours: (dict "root" $ "kind" "labeling") */}}
{{- define "posewatch.image" -}}
{{ printf "%s-%s:%s" .root.Values.images.repository .kind (include "posewatch.tag" .root) }}
{{- end -}}

{{- define "posewatch.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .uid }}
runAsGroup: {{ .uid }}
fsGroup: {{ .uid }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "posewatch.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "posewatch.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "posewatch.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Variables from the main Secret, and with the store's its region where the Secret has it: (dict "root" $ "names" (list ...)) */}}
{{- define "posewatch.env" -}}
{{- range .names }}
- name: {{ . | quote }}
  valueFrom: {secretKeyRef: {name: {{ $.root.Values.secrets.main | quote }}, key: {{ . }}}}
{{- end }}
{{- if has "POSEWATCH_S3_ENDPOINT" .names }}
- name: POSEWATCH_S3_REGION
  valueFrom: {secretKeyRef: {name: {{ $.root.Values.secrets.main | quote }}, key: POSEWATCH_S3_REGION, optional: true}}
{{- end }}
{{- end -}}

{{/* Authorities of caBundle: the variable, the mount and the volume. */}}
{{- define "posewatch.caEnv" -}}
{{- if .Values.caBundle.configMap }}
- {name: SSL_CERT_FILE, value: /etc/posewatch-ca/ca.crt}
{{- end }}
{{- end -}}

{{- define "posewatch.caMount" -}}
{{- if .Values.caBundle.configMap }}
- {name: ca, mountPath: /etc/posewatch-ca, readOnly: true}
{{- end }}
{{- end -}}

{{- define "posewatch.caVolume" -}}
{{- with .Values.caBundle }}
{{- if .configMap }}
- name: ca
  configMap: {name: {{ .configMap | quote }}, items: [{key: {{ .key | quote }}, path: ca.crt}]}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where watchers store the records of alarms; empty where there are none. */}}
{{- define "posewatch.records" -}}
{{- with .Values.watcher.records }}
{{- if .enabled }}{{ .store | default (ternary (printf "s3://%s" $.Values.store.bucket) "" $.Values.store.enabled) }}{{ end }}
{{- end }}
{{- end -}}

{{- define "posewatch.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .className }}
storageClassName: {{ . | quote }}
{{- end }}
resources: {requests: {storage: {{ .size }}}}
{{- end -}}

{{- define "posewatch.basePath" -}}
{{- with .Values.labeling.basePath }}/{{ trimAll "/" . }}{{ end -}}
{{- end -}}

{{- define "posewatch.labelingReplicas" -}}
{{- if .Values.labeling.autoscaling.enabled }}{{ .Values.labeling.autoscaling.minReplicas }}{{ else }}{{ .Values.labeling.replicas }}{{ end -}}
{{- end -}}

{{/* "yes" unless somebody else has made the object (kubectl apply -k manifests/base): then it is left to them, for helm
     refuses to install over what it does not own: (dict "root" $ "api" "v1" "kind" "ServiceAccount" "name" "...") */}}
{{- define "posewatch.ours" -}}
{{- $there := dict }}
{{- if .root.Capabilities.APIVersions.Has (printf "%s/%s" .api .kind) }}
{{- $there = lookup .api .kind .root.Release.Namespace .name | default dict }}
{{- end }}
{{- $owner := dig "metadata" "annotations" "meta.helm.sh/release-name" "" $there }}
{{- if or (not $there) (eq $owner .root.Release.Name) }}yes{{ end -}}
{{- end -}}

{{/* Whether people reach the page from outside the cluster. */}}
{{- define "posewatch.published" -}}
{{- if or .Values.labeling.ingress.enabled .Values.labeling.httpRoute.enabled .Values.labeling.istio.enabled }}yes{{ end -}}
{{- end -}}
