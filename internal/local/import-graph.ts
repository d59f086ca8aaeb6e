import { readFileSync, statSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';

const IMPORT = /\b(?:from|import)\s*\(?\s*['"]([^'"\n]+)['"]/g;

interface Imports {
  readonly stamp: number;
  /** Absolute paths. */
  readonly files: readonly string[];
  readonly packages: readonly string[];
}

/** What the programs of a folder of compiled ES modules load. Paths are relative to the folder. */
export class ImportGraph {
  private readonly imports = new Map<string, Imports>();

  constructor(private readonly folder: string) {}

  /** The files that a program loads by relative imports, the program included. */
  filesOf(program: string): ReadonlySet<string> {
    const found = new Set<string>();
    const open = [resolve(this.folder, program)];
    for (let file = open.pop(); file !== undefined; file = open.pop()) {
      const path = relative(this.folder, file);
      if (found.has(path)) continue;
      found.add(path);
      open.push(...(this.importsOf(file)?.files ?? []));
    }
    return found;
  }

  /** The packages that these files import, as they are written there. Built-in modules are not among them. */
  packagesOf(program: string): ReadonlySet<string> {
    const files = [...this.filesOf(program)];
    return new Set(files.flatMap((file) => this.importsOf(resolve(this.folder, file))?.packages ?? []));
  }

  private importsOf(file: string): Imports | undefined {
    const stamp = statSync(file, { throwIfNoEntry: false })?.mtimeMs;
    if (stamp === undefined) return undefined;
    const known = this.imports.get(file);
    if (known?.stamp === stamp) return known;
    const specifiers = [...readFileSync(file, 'utf8').matchAll(IMPORT)].map(([, specifier = '']) => specifier);
    const imports = {
      stamp,
      files: specifiers.filter(isRelative).map((specifier) => resolve(dirname(file), specifier)),
      packages: specifiers.filter((specifier) => !isRelative(specifier) && !specifier.startsWith('node:')),
    };
    this.imports.set(file, imports);
    return imports;
  }
}

function isRelative(specifier: string): boolean {
  return specifier.startsWith('./') || specifier.startsWith('../');
}
