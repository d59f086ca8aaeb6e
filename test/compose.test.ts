import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
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

/** Variables that tell programs where servers and processes are; see docs/configuration.md. */
const PLACE =
  /^KAIMAI_((POSTGRES|REDIS|RABBITMQ)_(URL|PASSWORD)|(PRODUCT|RESOURCE)_(HTTP|GRPC|METRICS))$|^POSTGRES_[A-Z_]+$/;

describe('docker-compose.yml', () => {
  const { services, secrets } = parse(readFileSync(join(projectRoot, 'docker-compose.yml'), 'utf8'), {
    merge: true,
  }) as { services: Record<string, Service>; secrets: Record<string, { file: string }> };

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
