import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { type CollectionTag, parse, parseDocument, type YAMLSeq } from 'yaml';
import { bootstrapSpec, ENVIRONMENT_RULE } from '../internal/conf/load.js';
import { FILE_SUFFIX, settingsOf } from '../internal/kratos/config/environment.js';
import { projectRoot } from '../internal/local/project.js';

interface Service {
  readonly build?: string;
  readonly image: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly secrets?: readonly string[];
  readonly mem_limit?: string;
  readonly logging?: { readonly options: Readonly<Record<string, string>> };
  readonly ports?: readonly string[];
}

/** A service of the clustered form. */
interface Node extends Service {
  readonly extends?: { readonly file: string; readonly service: string };
  readonly command?: readonly string[];
  readonly volumes?: readonly string[];
  readonly networks?: { readonly default: { readonly ipv4_address: string } };
}

/** Variables that tell programs where servers and processes are; see docs/configuration.md. */
const PLACE =
  /^KAIMAI_((POSTGRES|REDIS|RABBITMQ)_(URL|PASSWORD)|(PRODUCT|RESOURCE)_(HTTP|GRPC|METRICS))$|^POSTGRES_[A-Z_]+$|^RABBITMQ_CLUSTER_NODES$/;

/** Compose replaces a list instead of adding to it. */
const RESET: CollectionTag = { tag: '!reset', collection: 'seq', resolve: (value) => value };

const textOf = (file: string): string => readFileSync(join(projectRoot, file), 'utf8');

function read<T>(file: string): T {
  return parse(textOf(file), { merge: true, customTags: [RESET] }) as T;
}

describe('docker-compose.yml', () => {
  const { services, secrets } = read<{
    services: Record<string, Service>;
    secrets: Record<string, { file: string }>;
  }>('docker-compose.yml');

  it('passes only variables that exist, and no secret but by a file that the service mounts', () => {
    const settings = settingsOf(bootstrapSpec().schema, ENVIRONMENT_RULE.prefix).map((s) => s.variable);
    for (const [name, service] of Object.entries(services)) {
      for (const [variable, value] of Object.entries(service.environment ?? {})) {
        const plain = variable.endsWith(FILE_SUFFIX) ? variable.slice(0, -FILE_SUFFIX.length) : variable;
        assert.ok(settings.includes(plain) || PLACE.test(plain), `${name}: ${variable}`);
        if (plain !== variable) {
          assert.ok(service.secrets?.includes(value.replace('/run/secrets/', '')), `${name}: ${variable}`);
        } else {
          assert.doesNotMatch(variable, /(PASSWORD|SECRET|TOKEN)$/, name);
          assert.doesNotMatch(value, /:\/\/[^/]*:[^/]*@/, `${name}: ${variable} has a password`);
        }
      }
    }
  });

  it('has a development value for each secret, and one file for each in deploy/make-secrets', () => {
    const files = readdirSync(join(projectRoot, 'deploy/secrets')).filter((name) => name !== 'README.md');
    assert.deepEqual(Object.keys(secrets).sort(), files.sort());
    for (const [name, { file }] of Object.entries(secrets)) {
      assert.equal(file, `\${KAIMAI_SECRETS:-./deploy/secrets}/${name}`);
    }
    const passwords = files
      .filter((name) => name.endsWith('password'))
      .map((name) => readFileSync(join(projectRoot, 'deploy/secrets', name), 'utf8'));
    assert.equal(new Set(passwords).size, passwords.length, 'each account has a password of its own');
  });

  it('builds one image once, limits every container and its log, and publishes ports on loopback only', () => {
    assert.deepEqual(
      Object.entries(services).flatMap(([name, { build }]) => (build ? [name] : [])),
      ['migrate'],
    );
    for (const [name, service] of Object.entries(services)) {
      assert.ok(service.mem_limit, name);
      assert.ok(service.logging?.options['max-size'], name);
      for (const port of service.ports ?? []) assert.match(port, /^127\.0\.0\.1:/, name);
    }
  });
});

describe('docker-compose.cluster.yml', () => {
  const base = read<{ services: Record<string, Service> }>('docker-compose.yml').services;
  const { services, volumes } = read<{ services: Record<string, Node>; volumes: Record<string, null> }>(
    'docker-compose.cluster.yml',
  );
  const extended = (name: string): Service | undefined => base[services[name]?.extends?.service ?? name];

  it('adds to services that exist, or limits a new one and its log', () => {
    for (const [name, service] of Object.entries(services)) {
      if (service.extends) assert.equal(service.extends.file, 'docker-compose.yml', name);
      const whole = { ...extended(name), ...service };
      assert.ok(whole.mem_limit, name);
      assert.ok(whole.logging?.options['max-size'], name);
      for (const volume of (service.volumes ?? []).filter((v) => !v.startsWith('.'))) {
        assert.ok((volume.split(':')[0] ?? '') in volumes, `${name}: ${volume}`);
      }
    }
  });

  it('publishes no port twice: each service that extends another resets its ports itself, as Compose ignores it in an anchor', () => {
    const written = parseDocument(textOf('docker-compose.cluster.yml'), { customTags: [RESET] });
    const extending = Object.keys(services).filter((name) => services[name]?.extends);
    assert.ok(extending.length > 0);
    for (const name of extending) {
      const ports = written.getIn(['services', name, 'ports']) as YAMLSeq | undefined;
      assert.deepEqual([ports?.tag, ports?.items], [RESET.tag, []], name);
    }
  });

  it('passes only variables that exist', () => {
    const settings = settingsOf(bootstrapSpec().schema, ENVIRONMENT_RULE.prefix).map((s) => s.variable);
    for (const [name, service] of Object.entries(services)) {
      for (const variable of Object.keys(service.environment ?? {})) {
        assert.ok(settings.includes(variable) || PLACE.test(variable), `${name}: ${variable}`);
      }
    }
  });

  it('names each node of Redis and of RabbitMQ to the processes and to the nodes', () => {
    const of = (service: string) =>
      Object.keys(services).filter((name) => name === service || services[name]?.extends?.service === service);
    const redis = of('redis').map((name) => `${services[name]?.networks?.default.ipv4_address}:6379`);
    assert.equal(redis.length, 6);
    assert.deepEqual(services['redis-cluster']?.command, redis);
    for (const name of ['product', 'product-2', 'resource']) {
      const { KAIMAI_DATA_REDIS_NODES: nodes, KAIMAI_RABBITMQ_URL: url } = services[name]?.environment ?? {};
      assert.equal(nodes, redis.join(','), name);
      assert.equal(
        url,
        of('rabbitmq')
          .map((node) => `amqp://kaimai@${node}:5672`)
          .join(','),
        name,
      );
    }
    for (const node of of('rabbitmq')) {
      assert.equal(services[node]?.environment?.RABBITMQ_CLUSTER_NODES, of('rabbitmq').join(' '));
    }
  });
});

describe('deploy/redis/form-cluster.sh', () => {
  const NODES = ['10.0.0.1:6379', '10.0.0.2:6379'];
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'kaimai-form-cluster-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** @param answers what `cluster info` says in turn, the last one ever after @returns the commands other than that */
  function commands(answers: readonly string[]): string[] {
    const at = (file: string) => join(folder, file);
    writeFileSync(at('password'), 'x');
    writeFileSync(at('answers'), answers.map((answer) => `${answer}\n`).join(''));
    writeFileSync(at('commands'), '');
    const stub = `#!/bin/sh
      case "$*" in
        *'cluster info') head -n 1 '${at('answers')}' | tr ' ' '\n'; [ "$(wc -l < '${at('answers')}')" = 1 ] || sed -i 1d '${at('answers')}' ;;
        *) echo "$*" >> '${at('commands')}' ;;
      esac`;
    writeFileSync(at('redis-cli'), stub, { mode: 0o755 });
    const script = textOf('deploy/redis/form-cluster.sh').replace('/run/secrets/redis_password', at('password'));
    execFileSync('sh', ['-c', script, 'form-cluster.sh', ...NODES], {
      env: { PATH: `${folder}${delimiter}${process.env.PATH}` },
    });
    return readFileSync(at('commands'), 'utf8').split('\n').slice(0, -1);
  }

  it('makes a cluster of nodes that know no others', () => {
    const made = commands(['cluster_state:fail cluster_known_nodes:1']);
    assert.deepEqual(made, [`--cluster create ${NODES.join(' ')} --cluster-replicas 1 --cluster-yes`]);
  });

  it('waits for a cluster that was made before and does not serve yet, and makes none', () => {
    const state = (name: string) => `cluster_state:${name} cluster_known_nodes:6`;
    assert.deepEqual(commands([state('fail'), state('fail'), state('ok')]), []);
  });
});
