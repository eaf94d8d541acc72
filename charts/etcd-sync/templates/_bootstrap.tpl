{{/* The annotations of an object of the hook. Usage: include "etcd-sync.hook" WEIGHT */}}
{{- define "etcd-sync.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ quote . }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* The Secrets with copies of the node's files, as a list. */}}
{{- define "etcd-sync.copies" -}}
[{{ quote .Values.standby.secret }}{{ if include "etcd-sync.encryptionFromHost" . }}, {{ include "etcd-sync.encryptionSecret" . }}{{ end }}]
{{- end }}

{{/* The pod that runs `etcd-sync bootstrap`.
Usage: include "etcd-sync.bootstrapPod" (dict "root" . "app" NAME "configMap" NAME "only" FLAG-or-nothing) */}}
{{- define "etcd-sync.bootstrapPod" -}}
{{- $values := .root.Values -}}
{{- $fromHost := include "etcd-sync.fromHost" .root -}}
{{- $encryption := include "etcd-sync.encryptionFromHost" .root -}}
metadata:
  labels:
    {{- include "etcd-sync.labels" (dict "root" .root "app" .app) | nindent 4 }}
spec:
  serviceAccountName: {{ .app }}
  restartPolicy: Never
  {{- include "etcd-sync.pullSecrets" .root | nindent 2 }}
  securityContext:
    {{- if $fromHost }}
    # The node's keys belong to root, mode 0600. The only exception to the restricted profile, and without capabilities.
    runAsUser: 0
    runAsGroup: 0
    seccompProfile: {type: RuntimeDefault}
    {{- else }}
    {{- include "etcd-sync.podSecurity" .root | nindent 4 }}
    {{- end }}
  containers:
    - name: bootstrap
      image: {{ include "etcd-sync.image" .root | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      command: [/usr/local/bin/etcd-sync]
      args:
        - bootstrap
        - --config=/etc/etcd-sync/config.yaml
        {{- if $fromHost }}
        - --standby-cacert=/host/pki/{{ $values.standby.hostFiles.ca }}
        - --standby-cert=/host/pki/{{ $values.standby.hostFiles.cert }}
        - --standby-key=/host/pki/{{ $values.standby.hostFiles.key }}
        - --standby-secret={{ $values.standby.secret }}
        {{- end }}
        {{- if $encryption }}
        - --encryption-config=/host/encryption/{{ base $values.encryption.hostFile }}
        - --encryption-secret={{ include "etcd-sync.encryptionSecret" .root }}
        {{- end }}
        {{- with .only }}
        - {{ . }}
        {{- end }}
      env:
        {{- include "etcd-sync.environment" .root | nindent 8 }}
      resources:
        requests: {cpu: 50m, memory: 64Mi}
        limits: {memory: 512Mi}
      securityContext:
        {{- include "etcd-sync.containerSecurity" .root | nindent 8 }}
      volumeMounts:
        {{- include "etcd-sync.mounts" .root | nindent 8 }}
        {{- if $fromHost }}
        - {name: host-pki, mountPath: /host/pki, readOnly: true}
        {{- end }}
        {{- if $encryption }}
        - {name: host-encryption, mountPath: /host/encryption, readOnly: true}
        {{- end }}
  volumes:
    {{- include "etcd-sync.files" (dict "root" .root "configMap" .configMap "who" "bootstrap") | nindent 4 }}
    {{- if $fromHost }}
    - name: host-pki
      hostPath: {path: {{ quote $values.standby.hostPki }}, type: Directory}
    {{- end }}
    {{- if $encryption }}
    # The folder, because mounting a missing file would create it on the node.
    - name: host-encryption
      hostPath: {path: {{ dir $values.encryption.hostFile | quote }}, type: Directory}
    {{- end }}
  {{- $node := or $fromHost (include "etcd-sync.needsNode" .root) }}
  {{- include "etcd-sync.placement" (dict "root" .root "app" .app "controlPlane" $node) | nindent 2 }}
{{- end }}
