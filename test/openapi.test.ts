import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import { parse } from 'yaml';
import { projectRoot } from '../internal/local/project.js';

describe('openapi.yaml', () => {
  const text = readFileSync(join(projectRoot, 'openapi.yaml'), 'utf8');

  it('is up to date with the protos', () => {
    execFileSync(process.execPath, [join(projectRoot, 'dist/cmd/openapi/main.js'), '--check'], { stdio: 'pipe' });
  });

  it('is valid OpenAPI 3.1', async () => {
    const validator = new Validator();
    const { valid, errors } = await validator.validate(parse(text));
    assert.deepEqual(errors ?? [], []);
    assert.ok(valid);
    assert.equal(validator.version, '3.1');
  });
});
