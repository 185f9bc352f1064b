#!/bin/sh
# Creates Temporal's databases and brings their schema up to date. Safe to run again; SQL_* name the server.
set -eu

prepare() {
  database=$1
  versions=$2
  temporal-sql-tool --db "$database" create
  # Starts the version table at 0.0; a database that is further on is left as it is.
  temporal-sql-tool --db "$database" setup-schema -v 0.0
  temporal-sql-tool --db "$database" update-schema -d "$versions"
}

schemas=/etc/temporal/schema/postgresql/v12
prepare temporal "$schemas/temporal/versioned"
prepare temporal_visibility "$schemas/visibility/versioned"
