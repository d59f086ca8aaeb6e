import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { formatRunEnv, parseRunEnv } from './run-env.js';

describe('.run/env', () => {
  const variables = {
    KAIMAI_REDIS_URL: 'redis://127.0.0.1:6379',
    KAIMAI_POSTGRES_URL: `postgres://postgres:a'b"c$d\`e\\f g@127.0.0.1/product_db?x=1&y=2`,
    PGPORT: '5432',
  };

  it('reads back what was written', () => {
    assert.deepEqual(parseRunEnv(formatRunEnv(variables)), variables);
  });

  it('has the same values when a shell reads it', () => {
    const script = `${formatRunEnv(variables)}printf '%s\\n' "$KAIMAI_REDIS_URL" "$KAIMAI_POSTGRES_URL" "$PGPORT"`;
    const out = execFileSync('/bin/sh', ['-c', script], { encoding: 'utf8', env: {} });
    assert.deepEqual(out.trimEnd().split('\n'), Object.values(variables));
  });

  it('ignores lines that it did not write', () => {
    assert.deepEqual(parseRunEnv('export PATH="/x:$PATH"\nrm -rf /\nexport A=\'1\' B=2\n'), {});
  });
});
