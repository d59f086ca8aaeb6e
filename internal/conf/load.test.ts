import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DescField, DescMessage, JsonObject } from '@bufbuild/protobuf';
import { ConfigError, formatViolation } from '../kratos/config/config-error.js';
import { FILE_SUFFIX, settingsOf } from '../kratos/config/environment.js';
import { DEFAULTS } from './defaults.js';
import { loadDescriptors } from './descriptors.js';
import { bootstrapSpec, ENVIRONMENT_RULE, loadBootstrap } from './load.js';

const MINIMUM = `data:
  database: {source: "postgres://127.0.0.1/product_db"}
  redis: {addr: "127.0.0.1:6379"}
  rabbitmq: {url: "amqp://127.0.0.1"}
`;

describe('loadBootstrap', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'kaimai-conf-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  function load(text: string, env: Record<string, string> = {}) {
    const file = join(dir, 'a.yaml');
    writeFileSync(file, text);
    return loadBootstrap(file, env);
  }

  function violationsOf(run: () => unknown): readonly string[] {
    try {
      run();
    } catch (err) {
      if (err instanceof ConfigError) return err.violations.map(formatViolation);
      throw err;
    }
    throw new Error('no violation was found');
  }

  it('refuses an archive that would take orders which may still be returned', () => {
    const of = (archiveAfter: string) =>
      load(`${MINIMUM}order: {archive_after: ${archiveAfter}, after_sale_window: 172800s}\n`);
    for (const archiveAfter of ['3600s', '86400s', '172800s']) {
      const violations = violationsOf(() => of(archiveAfter));
      assert.match(
        violations.join(),
        /^order\.archive_after: must be 0s, or at least one day and longer than/,
        archiveAfter,
      );
    }
    for (const archiveAfter of ['0s', '172801s']) assert.doesNotThrow(() => of(archiveAfter));
  });

  it('fills in the defaults and counts durations in ms', () => {
    const c = load(`${MINIMUM}outbox: {poll_interval: 0.05s}\n`);
    assert.equal(c.outbox.pollIntervalMs, 50);
    assert.equal(c.order.payTimeoutMs, 900_000);
    assert.equal(c.server.grpc.reflection, true);
    assert.equal(c.data.rabbitmq.queue, 'resource.instance.created');
    assert.deepEqual(c.server.roles, []);
    assert.throws(() => Object.assign(c.server, { workers: '2' }), TypeError);
  });

  it('reads the configurations in configs/', () => {
    for (const name of ['product', 'resource']) {
      const c = loadBootstrap(`configs/${name}.yaml`, { KAIMAI_PRODUCT_GRPC: 'grpc://127.0.0.1:9555' });
      assert.equal(c.data.database.role, `kaimai_${name}`);
      assert.equal(c.resource.productAddr, name === 'resource' ? '127.0.0.1:9555' : '127.0.0.1:9000');
    }
  });

  it('replaces placeholders with environment variables, typed by their field', () => {
    const text = `${MINIMUM}server: {environment: development, workers: "\${W:3}", http: {envelope: "\${E}", addr: "http://0.0.0.0:\${P:80}"}}
log: {level: "\${L:info}"}
auth: {internal_token: "$\${literal}-and-long"}
seckill: {batch_size: "\${B}"}
`;
    const c = load(text, { E: 'true', B: '7', L: '' });
    assert.equal(c.server.workers, '3');
    assert.equal(c.server.http.envelope, true);
    assert.equal(c.server.http.addr, '0.0.0.0:80');
    assert.equal(c.log.level, 'info');
    assert.equal(c.seckill.batchSize, 7);
    assert.equal(c.auth.internalToken, `\${literal}-and-long`);
  });

  it('takes every setting from the environment, over the file and the default', () => {
    const c = load(`${MINIMUM}log: {level: warn}\nseckill: {batch_size: 3}\nserver: {roles: [api]}\n`, {
      KAIMAI_LOG_LEVEL: 'debug',
      KAIMAI_SECKILL_BATCH_SIZE: '7',
      KAIMAI_SERVER_ROLES: 'outbox_relay, order_sweeper',
      KAIMAI_SERVER_HTTP_ENVELOPE: 'true',
      KAIMAI_TRACE_SAMPLE_RATIO: '0.25',
      KAIMAI_OUTBOX_POLL_INTERVAL: '0.05s',
      KAIMAI_SERVER_ENVIRONMENT: 'development',
      KAIMAI_SERVER_GRPC_ADDR: 'grpc://0.0.0.0:9555',
      KAIMAI_RESOURCE_SIMULATOR_DELAY: '2s',
      KAIMAI_ORDER_SWEEP_BATCH: '',
      KAIMAI_RESOURCE_HTTP: '127.0.0.1:8001',
      KAIMAI_REDIS_URL: 'redis://not-a-setting',
    });
    assert.equal(c.log.level, 'debug');
    assert.equal(c.seckill.batchSize, 7);
    assert.deepEqual(c.server.roles, ['outbox_relay', 'order_sweeper']);
    assert.equal(c.server.http.envelope, true);
    assert.equal(c.trace.sampleRatio, 0.25);
    assert.equal(c.outbox.pollIntervalMs, 50);
    assert.equal(c.server.grpc.addr, '0.0.0.0:9555');
    assert.equal(c.resource.simulator.delayMs, 2000);
    assert.equal(c.order.sweepBatch, 200);
    assert.equal(c.data.redis.addr, '127.0.0.1:6379');
  });

  it('adds passwords of any characters to the URLs of the servers', () => {
    const { data } = load(MINIMUM, {
      KAIMAI_DATA_DATABASE_PASSWORD: 'a@/:#%',
      KAIMAI_DATA_REDIS_PASSWORD: 'b@/:#%',
      KAIMAI_DATA_RABBITMQ_PASSWORD: 'c@/:#%',
      KAIMAI_DATA_RABBITMQ_URL: 'amqp://kaimai@127.0.0.1',
    });
    assert.equal(data.redis.addr, 'redis://:b%40%2F%3A%23%25@127.0.0.1:6379');
    assert.equal(data.rabbitmq.url, 'amqp://kaimai:c%40%2F%3A%23%25@127.0.0.1');
    assert.equal(data.database.source, 'postgres://:a%40%2F%3A%23%25@127.0.0.1/product_db');
  });

  it('has a variable of its own for every setting', () => {
    const settings = settingsOf(bootstrapSpec().schema, ENVIRONMENT_RULE.prefix);
    const names = settings.flatMap(({ variable }) => [variable, `${variable}${FILE_SUFFIX}`]);
    assert.deepEqual(
      names.filter((name, i) => names.indexOf(name) !== i),
      [],
    );
    // A list of messages, or a map, could not be written as a variable.
    for (const { path, field } of settings) {
      assert.ok(field.fieldKind !== 'map' && (field.fieldKind !== 'list' || field.listKind === 'scalar'), path);
    }
    for (const [old, variable] of Object.entries(ENVIRONMENT_RULE.renamed)) {
      assert.ok(names.includes(variable) && !names.includes(old), old);
    }
    assert.ok(settings.length > 80);
  });

  it('reads secrets from files', () => {
    const file = join(dir, 'secret');
    writeFileSync(file, 'a secret of at least 32 characters\n');
    const text = `${MINIMUM}payment: {secret: "\${PAY}"}\n`;
    const c = load(text, { KAIMAI_AUTH_JWT_SECRET_FILE: file, PAY_FILE: file });
    assert.equal(c.auth.jwt.secret, 'a secret of at least 32 characters');
    assert.equal(c.payment.secret, 'a secret of at least 32 characters');
    writeFileSync(file, '\n');
    assert.equal(load(MINIMUM, { KAIMAI_AUTH_JWT_SECRET_FILE: file }).auth.jwt.secret, '');
    const env = { KAIMAI_AUTH_BFF_TOKEN_FILE: join(dir, 'none') };
    const violations = violationsOf(() =>
      load(MINIMUM, { ...env, KAIMAI_LOG_LEVEL: 'info', KAIMAI_LOG_LEVEL_FILE: file }),
    );
    assert.match(violations.join('\n'), /^KAIMAI_AUTH_BFF_TOKEN_FILE: ENOENT/m);
    assert.match(violations.join('\n'), /^KAIMAI_LOG_LEVEL_FILE: set together with KAIMAI_LOG_LEVEL/m);
  });

  it('reports a bad value by the variable that it came from', () => {
    const violations = violationsOf(() =>
      load(`${MINIMUM}server: {http: {addr: "\${WHERE}"}, workers: "0"}\n`, {
        WHERE: 'nowhere',
        KAIMAI_SERVER_TRUSTED_PROXIES: '10.0.0.1,proxy',
        KAIMAI_OUTBOX_LEASE: 'soon',
        KAIMAI_AUTH_INTERNAL_TOKEN: 'short',
        KAIMAI_SERVER_GRPC_ADR: '127.0.0.1:1',
        KAIMAI_ENVIRONMENT: 'production',
      }),
    );
    const places = [...new Set(violations.map((v) => v.replace(/: .*/, '')))].sort();
    assert.deepEqual(places, [
      'KAIMAI_AUTH_INTERNAL_TOKEN (auth.internal_token)',
      'KAIMAI_ENVIRONMENT',
      'KAIMAI_OUTBOX_LEASE (outbox.lease)',
      'KAIMAI_SERVER_GRPC_ADR',
      'KAIMAI_SERVER_TRUSTED_PROXIES (server.trusted_proxies[1])',
      'WHERE (server.http.addr)',
      'server.workers',
    ]);
    assert.ok(violations.includes('KAIMAI_ENVIRONMENT: renamed: set KAIMAI_SERVER_ENVIRONMENT'));
    assert.ok(violations.includes('KAIMAI_SERVER_GRPC_ADR: stands for no setting'));
    assert.ok(!violations.join().includes('short'), 'secrets are not repeated');
  });

  it('takes several hosts of PostgreSQL, and says what is wrong with them', () => {
    const load1 = (source: string) => load(MINIMUM, { KAIMAI_DATA_DATABASE_SOURCE: source }).data.database.source;
    const source = 'postgres://u@a:1,b:2/db?target_session_attrs=read-write';
    assert.equal(load1(source), source);
    for (const [wrong, expected] of [
      ['postgres://u@a,,b/db', /no host as number 2/],
      ['postgres://u@a,b/db?target_session_attrs=standby', /read-write or primary/],
    ] as const) {
      assert.throws(
        () => load1(wrong),
        (err: Error) => /data\.database\.source/.test(err.message) && expected.test(err.message),
      );
    }
    assert.throws(
      () => load(MINIMUM, { KAIMAI_DATA_DATABASE_REPLICA_SOURCE: 'postgres://a,b/db?target_session_attrs=read-write' }),
      /data\.database\.replica_source.*standby or read-only or any/s,
    );
  });

  it('does not log in as the superuser by default', () => {
    for (const name of ['product', 'resource']) {
      const { source } = loadBootstrap(`configs/${name}.yaml`, {}).data.database;
      assert.equal(new URL(source).username, name);
    }
  });

  it('lists every violation with its path', () => {
    const violations = violationsOf(() =>
      load(`server:
  http: {addr: nowhere, timeout: soon, adr: x}
  grpc: 9000
  roles: api
  workers: 0
data:
  database: {source: "\${DB}", pool_size: many, poolSize: 3}
  rabbitmq: {url: "amqp://x", prefetch: 0}
  redis: {addr: 5}
log: {level: loud}
resource: {simulator: {failure_rate: 2}}
`),
    );
    const at = (path: string) => violations.filter((f) => f.startsWith(`${path}: `));
    for (const path of [
      'server.http.addr',
      'server.http.timeout',
      'server.http.adr',
      'server.grpc',
      'server.roles',
      'server.workers',
      'data.rabbitmq.prefetch',
      'log.level',
      'resource.simulator.failure_rate',
    ]) {
      assert.equal(at(path).length, 1, `${path} in ${violations.join('\n')}`);
    }
    assert.match(at('data.database.source')[0] ?? '', /the environment has no DB/);
    assert.match(at('data.database.pool_size')[0] ?? '', /given twice/);
    assert.deepEqual(
      at('data.redis.addr').filter((f) => f.includes('5')),
      [],
      'secrets are not repeated',
    );
  });

  it('merges the files of a directory in the order of their names', () => {
    writeFileSync(join(dir, '10-base.yaml'), `${MINIMUM}log: {level: warn, pretty: true}\n`);
    writeFileSync(join(dir, '20-more.yml'), 'log: {level: debug}\n');
    writeFileSync(join(dir, 'notes.txt'), 'not: [yaml');
    const c = loadBootstrap(dir, {});
    assert.deepEqual({ ...c.log }, { level: 'debug', pretty: true });
  });

  it('rejects broken YAML, repeated keys and a missing file', () => {
    assert.match(violationsOf(() => load('a: [1')).join(), /a\.yaml/);
    assert.match(violationsOf(() => load(`${MINIMUM}log: {}\nlog: {}\n`)).join(), /unique/);
    assert.match(violationsOf(() => loadBootstrap(join(dir, 'none.yaml'), {})).join(), /ENOENT/);
  });

  it('accepts addresses and networks as trusted proxies, and rejects everything else', () => {
    const proxies = (...list: string[]) => `${MINIMUM}server: {trusted_proxies: ${JSON.stringify(list)}}\n`;
    const good = ['10.0.0.1', '10.0.0.0/8', '10.0.0.1/32', '::1', 'fd00::/64', 'fd00::1/128'];
    assert.deepEqual(load(proxies(...good)).server.trustedProxies, good);
    for (const bad of ['10.0.0.0/33', 'fd00::/129', '10.0.0/8']) {
      assert.deepEqual(
        violationsOf(() => load(proxies('10.0.0.1', bad))),
        ['server.trusted_proxies[1]: must be an address or a network such as 10.0.0.0/8'],
      );
    }
    for (const bad of ['proxy', '10.0.0.0/x', '10.0.0.0/', '10.0.0.0/8/8']) {
      const violations = violationsOf(() => load(proxies('10.0.0.1', bad)));
      assert.match(violations[0] ?? '', /^server\.trusted_proxies\[1\]: does not match/, bad);
    }
  });

  it('accepts the CORS origin * alone, and not among others', () => {
    const origins = (...list: string[]) => `${MINIMUM}server: {http: {cors_origins: ${JSON.stringify(list)}}}\n`;
    for (const good of [['*'], ['https://a.test'], ['https://a.test', 'https://b.test']]) {
      assert.deepEqual(load(origins(...good)).server.http.corsOrigins, good);
    }
    assert.deepEqual(
      violationsOf(() => load(origins('https://a.test', '*'))),
      ['server.http.cors_origins: "*" allows all origins and must be the only entry'],
    );
  });

  it('is for development without being asked only where no other machine can call', () => {
    for (const addr of ['127.0.0.1:1', '127.8.8.8:1', 'localhost:1', '[::1]:1', 'http://127.0.0.1:1']) {
      assert.equal(load(`${MINIMUM}server: {http: {addr: "${addr}"}}\n`).server.environment, 'development', addr);
    }
    for (const [listener, addr] of [
      ['http', '0.0.0.0:8000'],
      ['http', '[::]:8000'],
      ['http', '10.1.2.3:8000'],
      ['grpc', 'shop.example:9000'],
      ['grpc', '128.0.0.1:9000'],
    ]) {
      const server = (environment: string) => `${MINIMUM}server: {${environment} ${listener}: {addr: "${addr}"}}\n`;
      const [violation = '', ...others] = violationsOf(() => load(server('')));
      assert.deepEqual(others, []);
      assert.ok(
        violation.startsWith(`server.environment: is not set, and other machines can reach server.${listener}`),
      );
      assert.match(violation, /set KAIMAI_SERVER_ENVIRONMENT to production.*INTERNAL_TOKEN.*BFF_TOKEN.*development/i);
      assert.equal(load(server('environment: development,')).server.environment, 'development');
    }
  });

  it('rejects a token that authenticates two kinds of callers', () => {
    const [a, b] = ['the-first-of-two-tokens', 'the-other-of-two-tokens'];
    const auth = (internal: string, bff: string, admin: string) =>
      `${MINIMUM}auth: {internal_token: ${internal}, bff_token: "${bff}", admin_token: "${admin}"}\n`;
    assert.equal(load(auth(a, b, '')).auth.adminToken, '');
    for (const [text, path] of [
      [auth(a, a, ''), 'auth.bff_token'],
      [auth(a, b, a), 'auth.admin_token'],
      [auth(a, b, b), 'auth.admin_token'],
    ] as const) {
      assert.deepEqual(
        violationsOf(() => load(text)),
        [`${path}: must differ from the other tokens`],
      );
    }
  });

  it('rejects development secrets in production', () => {
    assert.match(
      violationsOf(() => load(`${MINIMUM}server: {environment: production}\n`)).join(),
      /auth\.internal_token/,
    );
    const shipped = violationsOf(() =>
      loadBootstrap('configs/product.yaml', { KAIMAI_SERVER_ENVIRONMENT: 'production' }),
    );
    assert.ok(shipped.includes('auth.jwt.secret: the development secret is refused in production'));
  });

  it('requires token keys that form a pair, also if only Login uses them', () => {
    const pem = (key: KeyObject, type: 'spki' | 'pkcs8') =>
      JSON.stringify(key.export({ type, format: 'pem' } as never));
    const [a, b] = [generateKeyPairSync('ed25519'), generateKeyPairSync('ed25519')];
    const violations = (jwt: string) => violationsOf(() => load(`${MINIMUM}auth: {jwt: {${jwt}}}\n`)).join();
    const pair = (algorithm: string, key: KeyObject) =>
      `algorithm: ${algorithm}, public_key: ${pem(a.publicKey, 'spki')}, private_key: ${pem(key, 'pkcs8')}`;
    assert.match(violations(pair('EdDSA', b.privateKey)), /auth\.jwt\.private_key: must be the EdDSA private key/);
    assert.match(violations(pair('RS256', a.privateKey)), /auth\.jwt\.private_key/);
    assert.match(violations('algorithm: EdDSA, private_key: nonsense'), /auth\.jwt\.private_key/);
    assert.match(violations('secret: short'), /auth\.jwt\.secret: HS256 requires at least 32 bytes/);
    assert.equal(load(`${MINIMUM}auth: {jwt: {${pair('EdDSA', a.privateKey)}}}\n`).auth.jwt.algorithm, 'EdDSA');
  });

  it('has the defaults that conf.proto tells', () => {
    const bootstrap = loadDescriptors().registry.getMessage('kaimai.conf.Bootstrap');
    assert.ok(bootstrap);
    let told = 0;
    const walk = (schema: DescMessage, defaults: JsonObject) => {
      for (const field of schema.fields) {
        const value = defaults[field.jsonName];
        if (field.message && !field.message.typeName.startsWith('google.')) {
          walk(field.message, (value ?? {}) as JsonObject);
          continue;
        }
        const said = /Default ("[^"]*"|[\w.]*\w)/.exec(commentOf(field))?.[1];
        // An optional field has no default of its own, because it depends on other settings.
        const depends = field.proto.proto3Optional || commentOf(field).includes('outside production');
        if (said === undefined || depends) continue;
        told++;
        const expected = said === 'none' ? '' : said === 'everything' ? '' : said.replaceAll('"', '');
        assert.equal(String(value), expected, `${schema.name}.${field.name}`);
      }
    };
    walk(bootstrap, DEFAULTS);
    assert.ok(told > 30, `only ${told} defaults were found`);
  });
});

/** The comment above a field. 4 is FileDescriptorProto.message_type, 3 nested_type, 2 field: see descriptor.proto. */
function commentOf(field: DescField): string {
  const path = (m: DescMessage): number[] =>
    m.parent
      ? [...path(m.parent), 3, m.parent.proto.nestedType.indexOf(m.proto)]
      : [4, m.file.proto.messageType.indexOf(m.proto)];
  const at = [...path(field.parent), 2, field.parent.proto.field.indexOf(field.proto)].join();
  return field.parent.file.proto.sourceCodeInfo?.location.find((l) => l.path.join() === at)?.leadingComments ?? '';
}
