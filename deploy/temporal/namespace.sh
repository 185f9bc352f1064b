#!/bin/sh
# Creates the namespace and the search attributes of our workflows. Safe to run again.
set -eu

until temporal operator cluster health; do sleep 2; done

temporal operator namespace describe --namespace "$NAMESPACE" ||
  temporal operator namespace create --namespace "$NAMESPACE" --retention "$RETENTION"

# A new namespace takes some seconds until every part of the server knows it.
until known=$(temporal operator search-attribute list --namespace "$NAMESPACE"); do sleep 2; done

while read -r name type; do
  if ! echo "$known" | grep -qw "$name"; then
    temporal operator search-attribute create --namespace "$NAMESPACE" --name "$name" --type "$type"
  fi
done <<ATTRIBUTES
TenantId Keyword
BatchState Keyword
Pipeline Keyword
CreatedBy Keyword
DocumentsTotal Int
DocumentsFailed Int
ATTRIBUTES
