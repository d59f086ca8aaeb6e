#!/bin/bash
# The postgres image runs this once, on an empty data directory. It creates one login per process, a member of only the role
# whose privileges migrations/005_roles.sql grants. The roles are created here too, because the logins need them.
set -euo pipefail
psql --no-psqlrc -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<'SQL'
\set product `cat /run/secrets/product_db_password`
\set resource `cat /run/secrets/resource_db_password`
CREATE ROLE kaimai_product NOLOGIN;
CREATE ROLE kaimai_resource NOLOGIN;
CREATE ROLE product LOGIN PASSWORD :'product' IN ROLE kaimai_product;
CREATE ROLE resource LOGIN PASSWORD :'resource' IN ROLE kaimai_resource;
SQL
