{{- define "joulefloor.container" -}}
{{- $values := .root.Values -}}
{{- $pod := .pod -}}
{{- $node := eq .role "node" -}}
- name: joulefloor
  image: {{ include "joulefloor.image" .root }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  args:
    - --path.rootfs=/host
    - --web.listen-address={{ $values.web.listenHost }}:{{ int $values.web.port }}
    - --web.telemetry-path={{ $values.web.telemetryPath }}
    {{- if include "joulefloor.config" $pod.config }}
    - --config.file=/etc/joulefloor/joulefloor.yaml
    {{- end }}
    {{- if $values.webConfig.secretName }}
    - --web.config.file=/etc/joulefloor-web/{{ $values.webConfig.key }}
    {{- end }}
    - --log.level={{ $values.log.level }}
    - --log.format={{ $values.log.format }}
    {{- with $pod.extraArgs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  env:
    - name: POD_IP
      valueFrom: {fieldRef: {fieldPath: status.podIP}}
    {{- if $node }}
    - name: NODE_NAME
      valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
    {{- end }}
    {{- if and $node $values.nvidia.enabled }}
    - {name: NVIDIA_VISIBLE_DEVICES, value: {{ $values.nvidia.visibleDevices | quote }}}
    - {name: NVIDIA_DRIVER_CAPABILITIES, value: {{ $values.nvidia.driverCapabilities | quote }}}
    {{- end }}
    {{- with $pod.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $pod.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - {name: metrics, containerPort: {{ int $values.web.port }}, protocol: TCP}
  {{- range $name, $path := dict "livenessProbe" "/healthz" "readinessProbe" "/readyz" "startupProbe" "/readyz" }}
  {{- with index $values $name }}
  {{ $name }}:
    {{- include "joulefloor.probe" (dict "values" $values "name" $name "path" $path "given" .) | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with $pod.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "joulefloor.containerSecurity" . | nindent 4 }}
  volumeMounts:
    {{- if $node }}
    - {name: proc, mountPath: /host/proc, readOnly: true}
    - {name: sys, mountPath: /host/sys, readOnly: true, mountPropagation: HostToContainer}
    {{- if $values.podNames.enabled }}
    - {name: pod-names, mountPath: /host/var/log/pods, readOnly: true}
    {{- end }}
    {{- if $values.podResources.enabled }}
    - {name: pod-resources, mountPath: /host/var/lib/kubelet/pod-resources, readOnly: true}
    {{- end }}
    {{- else }}
    - {name: no-host, mountPath: /host, readOnly: true}
    {{- end }}
    {{- if include "joulefloor.config" $pod.config }}
    - {name: config, mountPath: /etc/joulefloor, readOnly: true}
    {{- end }}
    {{- if $values.webConfig.secretName }}
    - {name: web-config, mountPath: /etc/joulefloor-web, readOnly: true}
    {{- end }}
    {{- with $pod.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- /* A probe: what is given, and where it asks unless that is given too. */ -}}
{{- define "joulefloor.probe" -}}
{{- $web := .values.webConfig -}}
{{- if and (not $web.secretName) (or (ne $web.probe "tcp") $web.probeHeaders) -}}
{{- fail "webConfig.probe and webConfig.probeHeaders say how probes pass a web configuration: name its secret in webConfig.secretName" -}}
{{- end -}}
{{- if and (eq $web.probe "tcp") $web.probeHeaders -}}
{{- fail "webConfig.probeHeaders are sent only with webConfig.probe: https or http" -}}
{{- end -}}
{{- if and .given.exec .given.httpGet -}}
{{- fail (printf "%s: exec or httpGet, not both" .name) -}}
{{- end -}}
{{- toYaml .given -}}
{{- if not (or .given.exec .given.httpGet) -}}
{{- if and $web.secretName (eq $web.probe "tcp") }}
tcpSocket: {port: metrics}
{{- else }}
httpGet:
  path: {{ .path }}
  port: metrics
  {{- if $web.secretName }}
  scheme: {{ upper $web.probe }}
  {{- with $web.probeHeaders }}
  httpHeaders:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end -}}
{{- end -}}
{{- end -}}
