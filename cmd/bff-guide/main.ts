import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { ALL_REASONS } from '../../gen/reasons.js';
import { loadDescriptors } from '../../internal/conf/descriptors.js';
import { edgeReasons, reasonComment } from '../../internal/kratos/transport/openapi/errors.js';
import { projectRoot } from '../../internal/local/project.js';

/** Writes the table of error reasons in docs/bff.md. `--check` only verifies that it is up to date. */
const file = join(projectRoot, 'docs/bff.md');
const BEGIN = '<!-- Generated from api/*/v1/error_reason.proto: run make bff-docs after a change there. -->\n';
const END = '<!-- End of the generated part. -->\n';

const page = readFileSync(file, 'utf8');
const [before, rest] = page.split(BEGIN);
const after = rest?.split(END)[1];
if (before === undefined || after === undefined) throw new Error(`${file} has no place for the table`);
const text = `${before}${BEGIN}${table()}${END}${after}`;
if (!process.argv.includes('--check')) {
  writeFileSync(file, text);
} else if (page !== text) {
  console.error('docs/bff.md is out of date: run make bff-docs, and commit it');
  process.exitCode = 1;
}

function table(): string {
  const { registry } = loadDescriptors();
  const declared = ALL_REASONS.map((spec) => ({
    reason: spec.reason,
    http: spec.httpCode,
    grpc: status[spec.grpcCode] ?? '',
    of: spec.domain,
    meaning: reasonComment(spec, registry),
  }));
  const edge = edgeReasons().map((r) => ({
    reason: r.reason,
    http: r.status,
    grpc: '–',
    of: 'JSON',
    meaning: r.comment,
  }));
  const rows = [...declared, ...edge].sort((a, b) => (a.reason < b.reason ? -1 : 1));
  const lines = rows.map((r) => `| \`${r.reason}\` | ${r.http} | ${r.grpc} | ${r.of} | ${r.meaning} |`);
  return ['', '| reason | HTTP | gRPC | declared by | meaning |', '|---|---|---|---|---|', ...lines, '', ''].join('\n');
}
