#!/bin/bash
# Run once by the postgres image, on an empty data directory. A login per process, each a member of nothing but the role
# that migrations/005_roles.sql gives its privileges to; the roles are made here already, so that there is something to
# be a member of.
set -euo pipefail
psql --no-psqlrc -v ON_ERROR_STOP=1 -v password="$KAIMAI_PASSWORD" -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<'SQL'
CREATE ROLE kaimai_product NOLOGIN;
CREATE ROLE kaimai_resource NOLOGIN;
CREATE ROLE product LOGIN PASSWORD :'password' IN ROLE kaimai_product;
CREATE ROLE resource LOGIN PASSWORD :'password' IN ROLE kaimai_resource;
SQL
