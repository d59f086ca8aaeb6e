import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { projectRoot } from '../internal/local/project.js';

describe('docs/configuration.md', () => {
  it('is up to date with conf.proto', () => {
    execFileSync(process.execPath, [join(projectRoot, 'dist/cmd/configuration/main.js'), '--check'], { stdio: 'pipe' });
  });
});
