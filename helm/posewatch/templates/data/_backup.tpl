{{/* The pod that dumps the labels, of the CronJob and of the first dump. */}}
{{- define "posewatch.backupPod" -}}
metadata:
  labels: {{ include "posewatch.labels" (dict "root" . "component" "backup") | nindent 4 }}
spec:
  restartPolicy: Never
  serviceAccountName: posewatch-postgresql
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- include "posewatch.pullSecrets" . | nindent 2 }}
  securityContext: {{ include "posewatch.podSecurity" (dict "uid" 999) | nindent 4 }}
  containers:
    - name: backup
      image: {{ .Values.postgresql.image }}
      imagePullPolicy: {{ .Values.images.pullPolicy }}
      command: [sh, /etc/posewatch/backup.sh, /backup, {{ .Values.postgresql.backup.keepDays | quote }}]
      env:
        - {name: PGHOST, value: posewatch-postgresql}
        - {name: PGUSER, value: posewatch}
        - {name: PGDATABASE, value: labels}
        - name: PGPASSWORD
          valueFrom: {secretKeyRef: {name: {{ .Values.secrets.postgresql | quote }}, key: password}}
      resources:
        requests: {cpu: 100m, memory: 128Mi}
        limits: {cpu: "1", memory: 512Mi}
      securityContext: {{ include "posewatch.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - {name: backup, mountPath: /backup}
        - {name: script, mountPath: /etc/posewatch, readOnly: true}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: backup
      persistentVolumeClaim: {claimName: posewatch-backup}
    - name: script
      configMap: {name: posewatch-backup}
    - name: tmp
      emptyDir: {sizeLimit: 1Gi}
{{- end -}}
