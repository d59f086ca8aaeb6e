import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromJson, type JsonValue } from '@bufbuild/protobuf';
import { loadDescriptors } from '../internal/conf/descriptors.js';
import { projectRoot } from '../internal/local/project.js';

interface Scenario {
  readonly call: string;
  readonly data: JsonValue;
}

describe('the ghz scenarios', () => {
  const folder = join(projectRoot, 'bench/ghz');
  const { registry } = loadDescriptors();

  for (const file of readdirSync(folder)) {
    it(`call an RPC that there is with a request that it takes: ${file}`, () => {
      const { call, data } = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Scenario;
      const [, service = '', name] = /^(.+)\.([^.]+)$/.exec(call) ?? [];
      const method = registry.getService(service)?.methods.find((m) => m.name === name);
      assert.ok(method, `there is no RPC ${call}`);
      // Unknown fields and wrong types throw.
      fromJson(method.input, data, { registry });
    });
  }
});
