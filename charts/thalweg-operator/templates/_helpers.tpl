{{- define "thalweg-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "thalweg-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "thalweg-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "thalweg-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "thalweg-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "thalweg-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "thalweg-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "thalweg-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* An image of values: repository, tag (default: appVersion), digest. */ -}}
{{- define "thalweg-operator.image" -}}
{{- $image := index . 0 -}}
{{- $root := index . 1 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- /*
What the operator may do where it watches. A right is here because an operation of the operator needs it; those on
leases also because it may give a JobManager only what it has itself.
*/ -}}
{{- define "thalweg-operator.rules" -}}
- apiGroups: [thalweg.dev]
  resources: [flinkapplications, flinksessions, flinksessionjobs]
  verbs: [get, list, watch, patch]
# Those of nonces, intervals and upgrades the operator makes itself, and deletes when they are too many.
- apiGroups: [thalweg.dev]
  resources: [flinkstatesnapshots]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [thalweg.dev]
  resources: [flinkapplications/status, flinksessions/status, flinksessionjobs/status, flinkstatesnapshots/status]
  verbs: [get, patch]
# Owner references that block deletion (OwnerReferencesPermissionEnforcement).
- apiGroups: [thalweg.dev]
  resources: [flinkapplications/finalizers, flinksessions/finalizers, flinksessionjobs/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, create, patch, delete]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
