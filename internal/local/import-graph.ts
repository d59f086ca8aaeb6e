import { readFileSync, statSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';

const RELATIVE_IMPORT = /\b(?:from|import)\s*\(?\s*['"](\.{1,2}\/[^'"]+)['"]/g;

/** Which files of a folder of compiled ES modules a program loads, by its relative imports. */
export class ImportGraph {
  private readonly imports = new Map<string, { stamp: number; files: readonly string[] }>();

  constructor(private readonly folder: string) {}

  /** @returns paths relative to the folder, the entry's included */
  filesOf(entry: string): ReadonlySet<string> {
    const found = new Set<string>();
    const open = [resolve(this.folder, entry)];
    for (let file = open.pop(); file !== undefined; file = open.pop()) {
      const path = relative(this.folder, file);
      if (found.has(path)) continue;
      found.add(path);
      open.push(...this.importsOf(file));
    }
    return found;
  }

  private importsOf(file: string): readonly string[] {
    const stamp = statSync(file, { throwIfNoEntry: false })?.mtimeMs;
    if (stamp === undefined) return [];
    const known = this.imports.get(file);
    if (known?.stamp === stamp) return known.files;
    const specifiers = [...readFileSync(file, 'utf8').matchAll(RELATIVE_IMPORT)].map(([, specifier = '']) => specifier);
    const files = specifiers.map((specifier) => resolve(dirname(file), specifier));
    this.imports.set(file, { stamp, files });
    return files;
  }
}
