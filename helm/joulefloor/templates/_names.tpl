{{- define "joulefloor.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- /* Room is left for "-facility" and the names of dashboards. */ -}}
{{- define "joulefloor.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "joulefloor.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Takes a dict of root and role. */ -}}
{{- define "joulefloor.roleName" -}}
{{- include "joulefloor.fullname" .root -}}{{- if eq .role "facility" -}}-facility{{- end -}}
{{- end -}}

{{- define "joulefloor.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "joulefloor.selectorLabels" -}}
app.kubernetes.io/name: {{ include "joulefloor.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{- define "joulefloor.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: joulefloor
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Metadata of an object: a dict of root, role, name, and optionally namespace, labels, annotations. */ -}}
{{- define "joulefloor.metadata" -}}
name: {{ .name }}
namespace: {{ default (include "joulefloor.namespace" .root) .namespace }}
labels:
  {{- include "joulefloor.selectorLabels" . | nindent 2 }}
  {{- include "joulefloor.commonLabels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "joulefloor.image" -}}
{{- $registry := default .Values.image.registry (.Values.global).imageRegistry -}}
{{- $name := .Values.image.repository -}}
{{- if $registry -}}{{- $name = printf "%s/%s" $registry $name -}}{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "joulefloor.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "joulefloor.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* The configuration as text; empty when there is none. Takes a map or text. */ -}}
{{- define "joulefloor.config" -}}
{{- if kindIs "string" . -}}
{{- . -}}
{{- else if . -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{- /* The roles this release runs, as JSON, since a template gives text. */ -}}
{{- define "joulefloor.roles" -}}
{{- $roles := list -}}
{{- if .Values.node.enabled -}}{{- $roles = append $roles "node" -}}{{- end -}}
{{- if .Values.facility.enabled -}}{{- $roles = append $roles "facility" -}}{{- end -}}
{{- toJson $roles -}}
{{- end -}}
