{{/* Labels of everything; NAME is its `app`. Usage: include "etcd-sync.labels" (dict "root" . "app" "etcd-sync") */}}
{{- define "etcd-sync.labels" -}}
app: {{ .app }}
app.kubernetes.io/name: etcd-sync
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .app }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "etcd-sync.image" -}}
{{- $image := .Values.global.images.etcdSync -}}
{{- with .Values.global.registry.address }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag }}{{ end }}
{{- end }}

{{- define "etcd-sync.pullSecrets" -}}
{{- with concat (.Values.global.imagePullSecrets | default list) (dig "registry" "imagePullSecrets" list .Values.global) }}
imagePullSecrets:
{{- range . }}
  - name: {{ kindIs "string" . | ternary . (get (kindIs "map" . | ternary . dict) "name") }}
{{- end }}
{{- end }}
{{- end }}

{{/* A host for a URL: IPv6 in brackets. */}}
{{- define "etcd-sync.host" -}}
{{- if and (contains ":" .) (not (hasPrefix "[" .)) }}[{{ . }}]{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* A list, or a string with commas, as a string with commas only. */}}
{{- define "etcd-sync.list" -}}
{{- $entries := kindIs "string" . | ternary (splitList "," (kindIs "string" . | ternary . "")) . -}}
{{- $clean := list -}}
{{- range $entries }}{{ with trim . }}{{ $clean = append $clean . }}{{ end }}{{ end -}}
{{ join "," $clean }}
{{- end }}

{{- define "etcd-sync.primaryEndpoints" -}}
{{- $given := include "etcd-sync.list" .Values.active_cluster_etcd_endpoints -}}
{{- if $given }}{{ $given }}
{{- else if .Values.active_cluster_vip }}https://{{ include "etcd-sync.host" .Values.active_cluster_vip }}:2379
{{- else }}{{ fail "active_cluster_vip is not set: give the address of the primary cluster, or the URLs of its etcd as active_cluster_etcd_endpoints" }}
{{- end }}
{{- end }}

{{- define "etcd-sync.standbyEndpoints" -}}
{{- include "etcd-sync.list" .Values.standby_cluster_etcd_endpoints -}}
{{- end }}

{{/* Whether the bootstrap Job writes the Secret of the standby's certificates: "true" or nothing. */}}
{{- define "etcd-sync.fromHost" -}}
{{- if eq .Values.standby.certificates "host" }}
{{- if not .Values.bootstrap.enabled }}{{ fail "bootstrap.enabled=false: then nothing copies the node's certificates; set standby.certificates=secret, and create the Secret" }}{{ end -}}
true{{ end }}
{{- end }}

{{/* Whether it also writes the encryption configuration. */}}
{{- define "etcd-sync.encryptionFromHost" -}}
{{- if and .Values.encryption.hostFile (not .Values.encryption.secret) (not (include "etcd-sync.fromHost" .)) }}{{ fail "encryption.hostFile is copied from a node only with standby.certificates=host: create a Secret with the file, set encryption.secret to its name, and encryption.hostFile=\"\"; if nothing is encrypted, set neither" }}{{ end -}}
{{- if and (include "etcd-sync.fromHost" .) .Values.encryption.hostFile (not .Values.encryption.secret) }}true{{ end }}
{{- end }}

{{/* The Secret with the encryption configuration, or nothing. */}}
{{- define "etcd-sync.encryptionSecret" -}}
{{- if eq .Values.standby.secret "etcd-sync-encryption" }}{{ fail "standby.secret: etcd-sync-encryption is the name of the Secret with the encryption config" }}{{ end -}}
{{- if .Values.encryption.secret }}{{ .Values.encryption.secret }}
{{- else if include "etcd-sync.encryptionFromHost" . }}etcd-sync-encryption
{{- end }}
{{- end }}

{{/* The name of the Lease: "none" switches it off. */}}
{{- define "etcd-sync.lease" -}}
{{- get (.Values.config | default dict) "lease" | default "etcd-sync-mirror" -}}
{{- end }}

{{/* What both programs read: one mapping from flags to values. */}}
{{- define "etcd-sync.config" -}}
{{- $files := "/etc/etcd-sync" -}}
{{- $config := dict
      "link" .Values.link
      "detail" .Values.detail
      "check-interval" (printf "%dm" (int .Values.monitor_check_interval))
      "primary-endpoints" (splitList "," (include "etcd-sync.primaryEndpoints" .)) -}}
{{- if .Values.standby.secret }}
{{- $_ := set $config "standby-cacert" (printf "%s/standby/ca.crt" $files) }}
{{- $_ := set $config "standby-cert" (printf "%s/standby/tls.crt" $files) }}
{{- $_ := set $config "standby-key" (printf "%s/standby/tls.key" $files) }}
{{- else if include "etcd-sync.fromHost" . }}{{ fail "standby.secret is not set: name the Secret that the node's certificates are written into" }}
{{- end -}}
{{- with include "etcd-sync.standbyEndpoints" . }}{{ $_ := set $config "standby-endpoints" (splitList "," .) }}{{ end -}}
{{- with .Values.active_cluster_vip }}{{ $_ := set $config "active-cluster-vip" (include "etcd-sync.host" .) }}{{ end -}}
{{- if and .Values.active_cluster_token_secret_ref (not .Values.active_cluster_vip) }}{{ fail "active_cluster_vip is not set: active_cluster_token_secret_ref is for the API server at that address" }}{{ end -}}
{{- with .Values.active_cluster_token_secret_ref }}{{ $_ := set $config "active-cluster-token-file" (printf "%s/active-cluster/token" $files) }}{{ end -}}
{{- with .Values.primary.caSecret }}{{ $_ := set $config "primary-cacert" (printf "%s/primary/ca.crt" $files) }}{{ end -}}
{{- with .Values.primary.clientSecret }}
{{- $_ := set $config "primary-cert" (printf "%s/primary-client/tls.crt" $files) }}
{{- $_ := set $config "primary-key" (printf "%s/primary-client/tls.key" $files) }}
{{- end -}}
{{- with .Values.primary.serverName }}{{ $_ := set $config "primary-server-name" . }}{{ end -}}
{{- if .Values.primary.user }}
{{- if not .Values.primary.passwordSecret }}{{ fail "primary.passwordSecret is not set: primary.user needs the Secret with its password" }}{{ end }}
{{- $_ := set $config "primary-user" .Values.primary.user }}
{{- $_ := set $config "primary-password-file" (printf "%s/primary-user/password" $files) }}
{{- end -}}
{{- if .Values.standby.user }}
{{- if not .Values.standby.passwordSecret }}{{ fail "standby.passwordSecret is not set: standby.user needs the Secret with its password" }}{{ end }}
{{- $_ := set $config "standby-user" .Values.standby.user }}
{{- $_ := set $config "standby-password-file" (printf "%s/standby-user/password" $files) }}
{{- end -}}
{{- with .Values.standby.serverName }}{{ $_ := set $config "standby-server-name" . }}{{ end -}}
{{- if include "etcd-sync.encryptionSecret" . }}{{ $_ := set $config "encryption-config" (printf "%s/encryption/encryption-provider.conf" $files) }}{{ end -}}
{{- with .Values.monitor.tokenSecret }}{{ $_ := set $config "token-file" (printf "%s/monitor/token" $files) }}{{ end -}}
{{- /* The release's own objects must never be copied, whichever namespace it is in, and whatever else is excluded. */ -}}
{{- $excluded := list "cert-manager" "cpaas-solution" "cpaas-system" "cpaas-system-global-credentials" "default" "global-credentials" "kube-node-lease" "kube-ovn" "kube-public" "kube-system" "kubevirt" "nativestor-system" "nsx-system" "operators" -}}
{{- $given := .Values.config | default dict -}}
{{- if hasKey $given "exclude-namespace" }}{{ $excluded = without (splitList "," (include "etcd-sync.list" (get $given "exclude-namespace"))) "" }}{{ end -}}
{{- if not (has .Release.Namespace $excluded) }}{{ $excluded = append $excluded .Release.Namespace }}{{ $_ := set $config "exclude-namespace" $excluded }}{{ end -}}
{{- range $key, $value := $given }}
{{- if not (and (eq $key "exclude-namespace") (hasKey $config $key)) }}
{{- if not (regexMatch "^[a-z0-9]+(-[a-z0-9]+)*$" $key) }}{{ fail (printf "config.%s: expected the name of a flag without the dashes in front of it" $key) }}{{ end }}
{{- if has $key (list "config" "listen" "holder") }}{{ fail (printf "config.%s: the chart sets this flag of the pods, and it cannot be changed" $key) }}{{ end }}
{{- if or (hasKey $config $key) (eq $key "standby-endpoints") }}{{ fail (printf "config.%s: the chart sets this flag from another value" $key) }}{{ end }}
{{- $_ := set $config $key $value }}
{{- end }}
{{- end -}}
{{ toYaml $config }}
{{- end }}

{{/* One key of a Secret as a file. Usage: include "etcd-sync.source" (dict "secret" NAME "key" KEY "path" PATH "optional" BOOL) */}}
{{- define "etcd-sync.source" -}}
- secret:
    name: {{ quote .secret }}
    items: [{key: {{ .key }}, path: {{ .path }}}]
    {{- if .optional }}
    optional: true
    {{- end }}
{{- end }}

{{/* The Secret of a credential: KEY is the credential, SIDE its cluster. The monitor may have its own.
Usage: include "etcd-sync.credential" (dict "root" . "who" "monitor" "side" "primary" "key" "clientSecret") */}}
{{- define "etcd-sync.credential" -}}
{{- $shared := get (get .root.Values .side) .key -}}
{{- if eq .who "monitor" }}{{ get (get .root.Values.monitor .side) .key | default $shared }}{{ else }}{{ $shared }}{{ end }}
{{- end }}

{{/*
The one volume with all files below /etc/etcd-sync. Usage: include "etcd-sync.files" (dict "root" . "configMap" NAME "who" WHO)
WHO: sync, monitor, drill, or bootstrap. For bootstrap a Secret may be missing: the program's message is clearer than a pod that
never starts.
*/}}
{{- define "etcd-sync.files" -}}
{{- $root := .root -}}
{{- $who := .who -}}
{{- $values := .root.Values -}}
{{- $job := eq .who "bootstrap" -}}
{{- $fromHost := include "etcd-sync.fromHost" .root -}}
{{- $fromHostToo := include "etcd-sync.encryptionFromHost" .root -}}
- name: files
  projected:
    defaultMode: 288 # 0440
    sources:
      - configMap:
          name: {{ .configMap }}
          items: [{key: config.yaml, path: config.yaml}]
      {{- with $values.primary.caSecret }}
      {{- include "etcd-sync.source" (dict "secret" . "key" "ca.crt" "path" "primary/ca.crt" "optional" $job) | nindent 6 }}
      {{- end }}
      {{- with include "etcd-sync.credential" (dict "root" $root "who" $who "side" "primary" "key" "clientSecret") }}
      {{- include "etcd-sync.source" (dict "secret" . "key" "tls.crt" "path" "primary-client/tls.crt" "optional" $job) | nindent 6 }}
      {{- include "etcd-sync.source" (dict "secret" . "key" "tls.key" "path" "primary-client/tls.key" "optional" $job) | nindent 6 }}
      {{- end }}
      {{- range $side := list "primary" "standby" }}
      {{- with include "etcd-sync.credential" (dict "root" $root "who" $who "side" $side "key" "passwordSecret") }}
      {{- include "etcd-sync.source" (dict "secret" . "key" "password" "path" (printf "%s-user/password" $side) "optional" $job) | nindent 6 }}
      {{- end }}
      {{- end }}
      {{- $standby := include "etcd-sync.credential" (dict "root" $root "who" $who "side" "standby" "key" "secret") }}
      {{- if and $standby (not (and $job $fromHost)) }}
      {{- range $key := list "ca.crt" "tls.crt" "tls.key" }}
      {{- include "etcd-sync.source" (dict "secret" $standby "key" $key "path" (printf "standby/%s" $key) "optional" $job) | nindent 6 }}
      {{- end }}
      {{- end }}
      {{- if not (and $job $fromHostToo) }}
      {{- with include "etcd-sync.encryptionSecret" .root }}
      {{- /* It does not exist before the first hook. */}}
      {{- include "etcd-sync.source" (dict "secret" . "key" "encryption-provider.conf" "path" "encryption/encryption-provider.conf" "optional" (or $job (ne $fromHostToo ""))) | nindent 6 }}
      {{- end }}
      {{- end }}
      {{- with and (ne $who "monitor") $values.active_cluster_token_secret_ref }}
      {{- /* It is used to query versions only, so a pod must not wait for it. */}}
      {{- include "etcd-sync.source" (dict "secret" . "key" "token" "path" "active-cluster/token" "optional" true) | nindent 6 }}
      {{- include "etcd-sync.source" (dict "secret" . "key" "ca.crt" "path" "active-cluster/ca.crt" "optional" true) | nindent 6 }}
      {{- end }}
      {{- if has $who (list "sync" "monitor") }}
      {{- with $values.monitor.tokenSecret }}
      {{- include "etcd-sync.source" (dict "secret" . "key" "token" "path" "monitor/token") | nindent 6 }}
      {{- end }}
      {{- end }}
{{- with $values.encryption.kmsFolder }}
- name: kms
  hostPath: {path: {{ quote . }}, type: Directory}
{{- end }}
{{- end }}

{{/* Where its volumes are mounted. */}}
{{- define "etcd-sync.mounts" -}}
- {name: files, mountPath: /etc/etcd-sync, readOnly: true}
{{- with .Values.encryption.kmsFolder }}
- {name: kms, mountPath: {{ quote . }}, readOnly: true}
{{- end }}
{{- end }}

{{/* The pod's name and namespace, and the etcd member of its node if no others are configured. */}}
{{- define "etcd-sync.environment" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- if not (include "etcd-sync.standbyEndpoints" .) }}
{{- /* The program adds port 2379, and brackets for IPv6. */}}
- name: ETCD_SYNC_STANDBY_ENDPOINTS
  valueFrom: {fieldRef: {fieldPath: status.hostIP}}
{{- end }}
{{- end }}

{{/* Where pods run. Usage: include "etcd-sync.placement" (dict "root" . "app" "etcd-sync" "controlPlane" "true") */}}
{{- define "etcd-sync.placement" -}}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- if .controlPlane }}
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]
  {{- end }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {app: {{ .app }}}
{{- end }}

{{/* Whether pods need a control-plane node: for the etcd members, which often cannot be reached from other nodes, or for a
socket on it. "true" or nothing. */}}
{{- define "etcd-sync.needsNode" -}}
{{- if or (include "etcd-sync.fromHost" .) (not (include "etcd-sync.standbyEndpoints" .)) .Values.encryption.kmsFolder }}true{{ end }}
{{- end }}

{{- define "etcd-sync.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAs }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "etcd-sync.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Whether a kind of the Prometheus operator is rendered. Usage: include "etcd-sync.wanted" (dict "root" . "value" "auto" "kind" "ServiceMonitor") */}}
{{- define "etcd-sync.wanted" -}}
{{- $known := .root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind) -}}
{{- if or (eq (toString .value) "true") (and (eq (toString .value) "auto") $known) }}true{{ end }}
{{- end }}
