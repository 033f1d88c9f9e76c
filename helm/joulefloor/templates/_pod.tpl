{{- /* The pod of a role: a dict of root, role, and pod (the values of the role). */ -}}
{{- define "joulefloor.pod" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $pod := .pod -}}
{{- $node := eq .role "node" -}}
{{- $config := include "joulefloor.config" $pod.config -}}
{{- $name := include "joulefloor.roleName" . -}}
{{- $grouped := and $node (eq $values.rapl.mode "group") -}}
metadata:
  labels:
    {{- include "joulefloor.selectorLabels" . | nindent 4 }}
    {{- include "joulefloor.commonLabels" $root | nindent 4 }}
    {{- with $pod.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: joulefloor
    {{- if $config }}
    checksum/config: {{ sha256sum $config }}
    {{- end }}
    {{- with merge (dict) $pod.podAnnotations $values.commonAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "joulefloor.serviceAccount" $root }}
  automountServiceAccountToken: {{ $values.serviceAccount.automountToken }}
  enableServiceLinks: false
  {{- with concat (($values.global).imagePullSecrets | default list) $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $pod.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $pod.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if $pod.hostNetwork }}
  hostNetwork: true
  {{- end }}
  {{- if and $node $values.hostPID }}
  hostPID: true
  {{- end }}
  {{- with default (ternary "ClusterFirstWithHostNet" "" $pod.hostNetwork) $pod.dnsPolicy }}
  dnsPolicy: {{ . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ int $values.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "joulefloor.podSecurity" . | nindent 4 }}
  {{- if or $grouped $pod.extraInitContainers }}
  initContainers:
    {{- if $grouped }}
    {{- include "joulefloor.raplGroup" $root | nindent 4 }}
    {{- end }}
    {{- with $pod.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    {{- include "joulefloor.container" . | nindent 4 }}
    {{- with $pod.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- if $node }}
    - {name: proc, hostPath: {path: /proc, type: Directory}}
    - {name: sys, hostPath: {path: /sys, type: Directory}}
    {{- if $grouped }}
    # powercap itself is not there on machines without RAPL, and would keep the pod from starting.
    - {name: virtual-devices, hostPath: {path: /sys/devices/virtual, type: Directory}}
    {{- end }}
    {{- if $values.podNames.enabled }}
    - {name: pod-names, hostPath: {path: {{ $values.podNames.path | quote }}, type: DirectoryOrCreate}}
    {{- end }}
    {{- if $values.podResources.enabled }}
    # The folder, not the socket: the kubelet makes a new socket whenever it starts.
    - {name: pod-resources, hostPath: {path: {{ $values.podResources.path | quote }}, type: DirectoryOrCreate}}
    {{- end }}
    {{- else }}
    # Stands for the host: an empty one, so that the node below is not measured twice.
    - {name: no-host, emptyDir: {sizeLimit: 1Mi}}
    {{- end }}
    {{- if $config }}
    - {name: config, configMap: {name: {{ $name }}}}
    {{- end }}
    {{- if $values.webConfig.secretName }}
    - {name: web-config, secret: {secretName: {{ $values.webConfig.secretName | quote }}, defaultMode: 0440}}
    {{- end }}
    {{- with $pod.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $pod.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $pod.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $pod.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
