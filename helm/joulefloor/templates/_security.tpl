{{- /* Who the pod runs as. Only uid 0 reads RAPL by its owner's right; it needs no capability for that. */ -}}
{{- define "joulefloor.podSecurity" -}}
{{- $values := .root.Values -}}
{{- $node := eq .role "node" -}}
{{- $root := and $node (eq $values.rapl.mode "root") -}}
{{- $uid := ternary 0 65534 $root -}}
{{- $context := dict "runAsUser" $uid "runAsGroup" $uid "runAsNonRoot" (not $root) -}}
{{- $_ := set $context "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- if and $node (eq $values.rapl.mode "group") -}}
{{- $_ := set $context "supplementalGroups" (list (int64 $values.rapl.group)) -}}
{{- end -}}
{{- if and $values.webConfig.secretName (not $root) -}}
{{- $_ := set $context "fsGroup" 65534 -}}
{{- end -}}
{{- toYaml (mergeOverwrite $context (deepCopy .pod.podSecurityContext)) -}}
{{- end -}}

{{- define "joulefloor.tight" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "joulefloor.containerSecurity" -}}
{{- toYaml (mergeOverwrite (include "joulefloor.tight" . | fromYaml) (deepCopy .pod.securityContext)) -}}
{{- end -}}

{{- /* The owner of a file may give it to a group that it is in itself, so this needs no capability either. */ -}}
{{- define "joulefloor.raplGroup" -}}
- name: rapl-group
  image: {{ include "joulefloor.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command:
    - python
    - -c
    - |
      import os, sys
      counters = 0
      for folder, _, files in os.walk("/virtual-devices/powercap"):
          if "energy_uj" in files:
              path = os.path.join(folder, "energy_uj")
              os.chown(path, -1, int(sys.argv[1]))
              os.chmod(path, 0o440)
              counters += 1
      print(f"{counters} RAPL counters are now readable for group {sys.argv[1]}")
    - {{ int64 .Values.rapl.group | quote }}
  securityContext:
    runAsUser: 0
    runAsNonRoot: false
    {{- include "joulefloor.tight" . | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 16Mi}
    limits: {memory: 64Mi}
  volumeMounts:
    - {name: virtual-devices, mountPath: /virtual-devices}
{{- end -}}
