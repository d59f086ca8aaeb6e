import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ALL_REASONS } from '../../gen/reasons.js';
import { loadDescriptors } from '../../internal/conf/descriptors.js';
import { ENVELOPE_HEADER, processOf } from '../../internal/conf/process.js';
import { projectVersion } from '../../internal/conf/version.js';
import { openApiDocument, toYaml } from '../../internal/kratos/transport/openapi/document.js';
import { projectRoot } from '../../internal/local/project.js';
import { accessRules } from '../../internal/server/access-rules.js';

/** Writes openapi.yaml, the JSON API of the whole system. `--check` only verifies that the file is up to date. */
const file = join(projectRoot, 'openapi.yaml');
const text = toYaml(
  openApiDocument({
    registry: loadDescriptors().registry,
    services: publicServices(),
    reasons: ALL_REASONS,
    access: accessRules(loadDescriptors().registry),
    envelopeHeader: ENVELOPE_HEADER,
    processOf,
    strict: true,
    title: 'Kaimai',
    version: projectVersion(),
  }),
);
if (!process.argv.includes('--check')) {
  writeFileSync(file, text);
} else if (readFileSync(file, 'utf8') !== text) {
  console.error('openapi.yaml is out of date: run make openapi, and commit it');
  process.exitCode = 1;
}

/** The services under api/, by name. */
function publicServices(): string[] {
  const files = [...loadDescriptors().registry.files].filter((f) => !/^(google|grpc|buf)\//.test(f.name));
  return files.flatMap((f) => f.services.map((s) => s.typeName)).sort();
}
