import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkConfigFolder, configFile } from './config-file.js';
import { projectRoot } from './project.js';

describe('The configuration folder of kaimai up', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'kaimai-conf-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('replaces the file of a service that it has a file for', () => {
    writeFileSync(join(folder, 'product.yaml'), '');
    checkConfigFolder(folder);
    assert.equal(configFile('product', folder), join(folder, 'product.yaml'));
    assert.equal(configFile('resource', folder), join(projectRoot, 'configs/resource.yaml'));
    assert.equal(configFile('product'), join(projectRoot, 'configs/product.yaml'));
  });

  it('is refused if it has a file for no service', () => {
    assert.throws(() => checkConfigFolder(folder), /has neither product\.yaml nor resource\.yaml$/);
  });
});
