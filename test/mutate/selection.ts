import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

/** A test file that reaches a mutated file by imports. */
export interface SelectedTest {
  /** Relative to dist/. */
  readonly file: string;
  /** Imports between the two; 1 for a test beside its subject. */
  readonly distance: number;
  readonly needsServers: boolean;
}

/** Tests that start whole processes or servers of their own: they come last. */
const SLOW = /^test\/e2e\/|-process\.test|-kill\.test|-fault\.test|failover|process\.test\.js$/;
const SERVER_SUPPORT = /^test\/support\/(servers|shared-servers|own-[a-z]+|processes)\.js$/;
/** Tests that look at the sources and not at what they do. */
const STATIC = /^test\/(layers|glossary|override|breaking|openapi|error-reasons)\.test\.js$|^test\/mutate\//;

/** Which compiled files import each other, or start each other as programs. */
export class ImportGraph {
  private readonly importers = new Map<string, Set<string>>();
  private readonly imports = new Map<string, readonly string[]>();
  private readonly tests: readonly string[];

  /** @param dist the folder of the compiled project */
  constructor(private readonly dist: string) {
    const files = ['cmd', 'gen', 'internal', 'test'].flatMap((folder) =>
      readdirSync(join(dist, folder), { recursive: true, encoding: 'utf8' })
        .filter((file) => file.endsWith('.js'))
        .map((file) => join(folder, file)),
    );
    for (const file of files) {
      const imported = this.importsIn(file);
      this.imports.set(file, imported);
      for (const target of imported) {
        const importers = this.importers.get(target) ?? new Set();
        this.importers.set(target, importers.add(file));
      }
    }
    this.tests = files.filter((file) => file.endsWith('.test.js') && !STATIC.test(file));
  }

  /**
   * The tests that reach a source file: those without servers first, those with whole processes last; among these the ones
   * named like it, then the nearest.
   */
  testsOf(source: string): readonly SelectedTest[] {
    const distances = this.distancesTo(compiledFiles(source, this.dist));
    const found = this.tests.flatMap((file) => {
      const distance = distances.get(file);
      return distance === undefined ? [] : [{ file, distance, needsServers: this.needsServers(file) }];
    });
    return found
      .map((test) => ({ test, affinity: affinityOf(source, test.file), slow: SLOW.test(test.file) }))
      .sort(
        (a, b) =>
          Number(a.test.needsServers) - Number(b.test.needsServers) ||
          Number(a.slow) - Number(b.slow) ||
          b.affinity - a.affinity ||
          a.test.distance - b.test.distance,
      )
      .map(({ test }) => test);
  }

  private distancesTo(targets: readonly string[]): ReadonlyMap<string, number> {
    const distances = new Map(targets.map((file) => [file, 0]));
    // A map iterates over what is added during the iteration, so this is a breadth-first search.
    for (const [file, distance] of distances) {
      for (const importer of this.importers.get(file) ?? []) {
        if (!distances.has(importer)) distances.set(importer, distance + 1);
      }
    }
    return distances;
  }

  /** A file and everything that it imports or starts, directly or not. */
  reachedFrom(file: string): ReadonlySet<string> {
    const seen = new Set([file]);
    for (const reached of seen) for (const imported of this.imports.get(reached) ?? []) seen.add(imported);
    return seen;
  }

  private needsServers(test: string): boolean {
    return [...this.reachedFrom(test)].some((file) => SERVER_SUPPORT.test(file));
  }

  private importsIn(file: string): string[] {
    const text = readFileSync(join(this.dist, file), 'utf8');
    const imported = [...text.matchAll(/(?:from|import|new URL)\s*\(?\s*'(\.[^']+\.js)'/g)].map(([, path = '']) =>
      relative(this.dist, join(this.dist, dirname(file), path)),
    );
    const started = [...text.matchAll(/'dist\/([^']+\.js)'/g)].map(([, path = '']) => path);
    return [...imported, ...started];
  }
}

/** Words that the names of a source and of a test have in common. */
function affinityOf(source: string, test: string): number {
  // Named after no table, it covers all of them.
  if (source.startsWith('migrations/') && test.includes('/constraints.')) return Number.POSITIVE_INFINITY;
  const words = (file: string) => new Set(file.split(/[^a-z]+/));
  const ofTest = words(test);
  return [...words(source)].filter((word) => ofTest.has(word)).length;
}

/** The compiled files whose behaviour a source file is. */
function compiledFiles(source: string, dist: string): readonly string[] {
  if (source.endsWith('.lua')) return ['internal/data/redis/lua-script.js'];
  if (source.startsWith('migrations/'))
    return ['internal/data/postgres/migrate.js', 'internal/data/postgres/postgres.js'];
  const compiled = source.replace(/\.ts$/, '.js');
  return existsSync(join(dist, compiled)) ? [compiled] : [];
}
