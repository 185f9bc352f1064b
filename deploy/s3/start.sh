#!/bin/sh
# One SeaweedFS process with S3 on port 8333; its other ports stay inside the container.
set -eu
umask 077

cat > /tmp/identities.json <<IDENTITIES
{"identities": [{"name": "ingather",
  "credentials": [{"accessKey": "$S3_ACCESS_KEY_ID", "secretKey": "$S3_SECRET_ACCESS_KEY"}],
  "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
IDENTITIES

exec weed -logtostderr=true server -dir=/data -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.peers=none \
  -master.telemetry=false -master.volumeSizeLimitMB=4096 -master.volumePreallocate=false -volume.max=0 \
  -filer -s3 -s3.ip.bind=0.0.0.0 -s3.port=8333 -s3.iam=false -s3.port.iceberg=0 -s3.port.lance=0 \
  -s3.config=/tmp/identities.json
