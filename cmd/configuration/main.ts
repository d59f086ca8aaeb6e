import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bootstrapSpec, ENVIRONMENT_RULE } from '../../internal/conf/load.js';
import { configurationPage } from '../../internal/kratos/config/configuration-page.js';
import { projectRoot } from '../../internal/local/project.js';

/** Writes docs/configuration.md. `--check` only verifies that the file is up to date. */
const file = join(projectRoot, 'docs/configuration.md');

const INTRODUCTION = `# Configuration

Every setting of \`product\` and \`resource\`. This page is generated from \`internal/conf/conf.proto\`: run \`make conf-docs\`
after a change there.

A process reads the YAML file or the directory of \`-conf\` (default \`configs/product.yaml\` and \`configs/resource.yaml\`). The keys
are those below: \`server.grpc.addr\` is the key \`addr\` in \`grpc\` in \`server\`. In a file, \`\${NAME}\` and \`\${NAME:default}\` stand for
environment variables.

Each setting has one environment variable: \`KAIMAI_\` and its path in upper case, with underscores. Precedence: environment over
file over default.

- A list is written with commas: \`KAIMAI_SERVER_ROLES=api,outbox_relay\`. A duration is written as in the file: \`1.5s\`.
- An empty variable or file counts as not set.
- \`<variable>_FILE\` names a file that holds the value, such as \`KAIMAI_AUTH_JWT_SECRET_FILE=/run/secrets/jwt_secret\`. A line break at
  its end is not part of the value. Use it for secrets: other programs may read the environment of a process.
- The process refuses to start with a value that does not fit, and names its variable. It also refuses a variable that begins like
  those of a section, but stands for no setting: \`KAIMAI_SERVER_GRPC_ADR\`.
- Settings marked *live* change in the running process when their file changes (within seconds). All others, and all changes of
  variables, wait for the next start.

These variables are not settings. They tell other programs where the servers and processes are; \`kaimai up\` writes them to \`.run/env\`.

| variable | holds | also read by |
|---|---|---|
| \`KAIMAI_POSTGRES_URL\`, \`KAIMAI_REDIS_URL\`, \`KAIMAI_RABBITMQ_URL\` | URLs of the servers, for \`kaimai\`, \`make run\` and \`make test\` | \`configs/*.yaml\`, as \`data.database.source\`, \`data.redis.addr\` and \`data.rabbitmq.url\` |
| \`KAIMAI_POSTGRES_PASSWORD\`, \`KAIMAI_REDIS_PASSWORD\`, \`KAIMAI_RABBITMQ_PASSWORD\` | the password of the URL, with any characters | \`configs/*.yaml\`, as the settings of that name |
| \`KAIMAI_PRODUCT_GRPC\` | host:port at which callers reach product by gRPC | \`configs/resource.yaml\`, as \`resource.product_addr\` |
| \`KAIMAI_PRODUCT_HTTP\`, \`KAIMAI_PRODUCT_METRICS\`, \`KAIMAI_RESOURCE_HTTP\`, \`KAIMAI_RESOURCE_GRPC\`, \`KAIMAI_RESOURCE_METRICS\` | host:port at which callers reach the processes | |

They accept \`_FILE\` as well.
`;

const text = `${INTRODUCTION}\n${configurationPage(bootstrapSpec(), ENVIRONMENT_RULE)}`;
if (!process.argv.includes('--check')) {
  writeFileSync(file, text);
} else if (readFileSync(file, 'utf8') !== text) {
  console.error('docs/configuration.md is out of date: run make conf-docs, and commit it');
  process.exitCode = 1;
}
