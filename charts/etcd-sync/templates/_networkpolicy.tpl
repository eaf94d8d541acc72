{{/* Allowed ingress and egress of a pod.
Usage: include "etcd-sync.networkPolicy" (dict "root" . "app" NAME "port" PORT-or-nothing "everywhere" BOOL "hook" WEIGHT-or-nothing) */}}
{{- define "etcd-sync.networkPolicy" -}}
{{- $values := .root.Values -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .app }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "etcd-sync.labels" . | nindent 4 }}
  {{- with .hook }}
  annotations:
    {{- include "etcd-sync.hook" . | nindent 4 }}
  {{- end }}
spec:
  podSelector:
    matchLabels: {app: {{ .app }}}
  policyTypes: [Ingress, Egress]
  {{- if .port }}
  ingress:
    - ports: [{protocol: TCP, port: {{ .port }}}]
      {{- with $values.networkPolicy.from }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
  {{- else }}
  # It serves nothing.
  ingress: []
  {{- end }}
  {{- if .everywhere }}
  # To name servers and to the API servers of workload clusters, at any address.
  egress: [{}]
  {{- else }}
  egress:
    # DNS, on the ports of Services and of the pods behind them (OpenShift's).
    - ports:
        {{- range list 53 5353 }}
        - {protocol: UDP, port: {{ . }}}
        - {protocol: TCP, port: {{ . }}}
        {{- end }}
    # The two etcds and the two API servers.
    - ports:
        {{- $etcd := splitList "," (include "etcd-sync.primaryEndpoints" .root) }}
        {{- $etcd = concat $etcd (splitList "," (include "etcd-sync.standbyEndpoints" .root | default "node:2379")) }}
        {{- $ports := list }}
        {{- range $etcd }}{{ $ports = append $ports (regexFind "[0-9]+$" . | int) }}{{ end }}
        {{- range $values.networkPolicy.apiServerPorts }}{{ $ports = append $ports (int .) }}{{ end }}
        {{- if $values.active_cluster_vip }}{{ $ports = append $ports 6443 }}{{ end }}
        {{- range uniq $ports }}
        - {protocol: TCP, port: {{ . }}}
        {{- end }}
  {{- end }}
{{- end }}
