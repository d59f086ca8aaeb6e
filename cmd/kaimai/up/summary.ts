import { relative } from 'node:path';
import { projectRoot } from '../../../internal/local/project.js';
import { RUN_ENV_FILE } from '../../../internal/local/run-env.js';
import { serverKinds } from '../../../internal/local/servers/servers.js';
import { type Context, SERVICES } from './context.js';

/** What runs where, and what to try. */
export function describe({ servers, services, addresses, kubernetes }: Context): string {
  const lines = ['', 'Kaimai is running.', ''];
  const clustered = services.size > SERVICES.length;
  for (const [name, { http, grpc }] of clustered ? addresses : []) {
    lines.push(`  ${name.padEnd(11)} http://${http}   gRPC ${grpc}   balancers of:`);
  }
  // In the order of their labels, and not in that in which they became ready.
  const sorted = [...services].sort(([a], [b]) => a.localeCompare(b));
  for (const [label, { http, grpc, metrics }] of sorted) {
    lines.push(`  ${label.padEnd(11)} http://${http}   gRPC ${grpc}   http://${metrics}/metrics`);
  }
  for (const { name, url, extras } of servers.values()) {
    const management = extras.KAIMAI_RABBITMQ_MANAGEMENT_URL;
    lines.push(
      `  ${serverKinds[name].title.padEnd(11)} ${withoutLogin(url)}${management ? `   ${withoutLogin(management)}` : ''}`,
    );
  }
  lines.push(
    '',
    'Try, in another terminal:',
    '',
    `  cd ${projectRoot} && . ${relative(projectRoot, RUN_ENV_FILE)}`,
    '  kaimai demo',
    '  kaimai status',
    '  curl -s http://$KAIMAI_PRODUCT_HTTP/v1/products',
    clustered
      ? "  redis-cli -c -u $KAIMAI_REDIS_URL XADD 'stream:seckill:{1001}' '*' uid 123 ts 1234567890"
      : "  redis-cli -u $KAIMAI_REDIS_URL XADD stream:seckill:1001 '*' uid 123 ts 1234567890",
    '  psql "$KAIMAI_POSTGRES_URL" -c "SELECT * FROM instance_logs ORDER BY created_at DESC LIMIT 10"',
    '  curl -s $KAIMAI_RABBITMQ_MANAGEMENT_URL/api/queues',
    ...(kubernetes ? ['  kubectl get pods'] : []),
    '',
    `Logs: ${sorted
      .map(([, service]) => relative(process.cwd(), service.logFile))
      .join(', ')}. Ctrl-C stops everything.`,
  );
  return lines.join('\n');
}

function withoutLogin(url: string): string {
  return url.replaceAll(/\/\/[^@/]*@/g, '//');
}

/** The hosts of a URL, or of several with commas between them. */
export function hostsOf(urls: string): string {
  return withoutLogin(urls)
    .replaceAll(/\w+:\/\//g, '')
    .replace(/[/?#].*$/, '');
}
