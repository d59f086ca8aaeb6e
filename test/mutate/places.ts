import { readdirSync, readFileSync } from 'node:fs';
import { SourceMap, type SourceMapPayload } from 'node:module';
import { basename, join } from 'node:path';
import ts from 'typescript';
import type { Place } from './coverage.js';

interface Position {
  /** A source file, relative to the project. */
  readonly file: string;
  readonly offset: number;
}

/**
 * Where the code runs that a change of a source file can affect. A change in a function affects that place; a change in a
 * constant, such as an SQL statement, affects the functions that use the constant; a Lua script, those that run it.
 */
export class Places {
  private readonly texts = new Map<string, string>();
  private readonly parsed = new Map<string, ts.SourceFile>();
  private readonly maps = new Map<string, CompiledFile>();

  constructor(
    private readonly root: string,
    private readonly dist: string,
  ) {
    for (const file of readdirSync(join(root, 'internal'), { recursive: true, encoding: 'utf8' })) {
      if (/\.(ts|lua)$/.test(file) && !/\.test\.ts$|\/testdata\//.test(file)) {
        this.texts.set(join('internal', file), readFileSync(join(root, 'internal', file), 'utf8'));
      }
    }
  }

  /** @returns undefined where that cannot be told: then every test that loads the file may notice the change */
  affectedBy(file: string, offset: number): readonly Place[] | undefined {
    const positions = file.endsWith('.ts')
      ? this.positionsOf({ file, offset }, new Set())
      : file.endsWith('.lua')
        ? this.scriptNames(file).flatMap((name) => this.usesOf(name, undefined, new Set()))
        : [];
    const places = positions.flatMap((p) => this.compiled(p) ?? []);
    return places.length === 0 ? undefined : places;
  }

  private positionsOf({ file, offset }: Position, seen: Set<string>): Position[] {
    const source = this.parse(file);
    let statement: ts.Node | undefined;
    let inFunction = false;
    const visit = (node: ts.Node): void => {
      if (offset < node.pos || offset >= node.end) return;
      if (node.parent === source) statement = node;
      if (ts.isFunctionLike(node) || ts.isClassLike(node)) inFunction = true;
      ts.forEachChild(node, visit);
    };
    ts.forEachChild(source, visit);
    if (inFunction) return [{ file, offset }];
    if (!statement || !ts.isVariableStatement(statement)) return [];
    const declared = statement;
    return declared.declarationList.declarations.flatMap(({ name }) => {
      const key = `${file} ${name.getText(source)}`;
      if (seen.has(key)) return [];
      seen.add(key);
      return this.usesOf(name.getText(source), { file, node: declared }, seen);
    });
  }

  /** Where a name of module scope is used. Names of different modules are not told apart. */
  private usesOf(
    name: string,
    declared: { readonly file: string; readonly node: ts.Statement } | undefined,
    seen: Set<string>,
  ): Position[] {
    const word = new RegExp(`\\b${name.replaceAll('$', '\\$')}\\b`);
    const exported = declared === undefined || declared.node.getText(this.parse(declared.file)).startsWith('export ');
    const files = exported ? [...this.texts.keys()].filter((f) => f.endsWith('.ts')) : [declared.file];
    return files.flatMap((file) => {
      if (!word.test(this.texts.get(file) ?? '')) return [];
      const source = this.parse(file);
      const found: Position[] = [];
      const visit = (node: ts.Node): void => {
        if (node === declared?.node || ts.isImportDeclaration(node) || ts.isTypeNode(node)) return;
        if (ts.isIdentifier(node) && node.text === name) {
          found.push(...this.positionsOf({ file, offset: node.getStart(source) }, seen));
        }
        ts.forEachChild(node, visit);
      };
      visit(source);
      return found;
    });
  }

  /** The constants of lua-script.ts whose scripts contain this file. */
  private scriptNames(file: string): string[] {
    const name = basename(file, '.lua');
    if (!file.includes('/include/')) return [name.toUpperCase()];
    return [...this.texts]
      .filter(([path, text]) => path.endsWith('.lua') && text.includes(`-- include: ${name}\n`))
      .map(([path]) => basename(path, '.lua').toUpperCase());
  }

  private compiled({ file, offset }: Position): Place | undefined {
    const compiledFile = file.replace(/\.ts$/, '.js');
    let map = this.maps.get(compiledFile);
    if (!map) {
      map = new CompiledFile(join(this.dist, compiledFile));
      this.maps.set(compiledFile, map);
    }
    const { line, character } = this.parse(file).getLineAndCharacterOfPosition(offset);
    const at = map.offsetOf(line, character);
    return at === undefined ? undefined : { file: compiledFile, offset: at };
  }

  private parse(file: string): ts.SourceFile {
    let source = this.parsed.get(file);
    if (!source) {
      const text = this.texts.get(file) ?? readFileSync(join(this.root, file), 'utf8');
      source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
      this.parsed.set(file, source);
    }
    return source;
  }
}

/** The way from a line and column of the source, counted from 0, to the compiled text. */
class CompiledFile {
  /** By line of the source: columns and what they became, in the order of the columns. */
  private readonly lines = new Map<number, { readonly column: number; readonly offset: number }[]>();

  constructor(file: string) {
    const map = new SourceMap(JSON.parse(readFileSync(`${file}.map`, 'utf8')) as SourceMapPayload);
    let start = 0;
    for (const [line, text] of readFileSync(file, 'utf8').split('\n').entries()) {
      for (const { index } of text.matchAll(/\w+|[^\w\s]/g)) {
        const entry = map.findEntry(line, index);
        if (!('originalLine' in entry) || entry.generatedLine !== line || entry.generatedColumn !== index) continue;
        const columns = this.lines.get(entry.originalLine) ?? [];
        columns.push({ column: entry.originalColumn, offset: start + index });
        this.lines.set(entry.originalLine, columns);
      }
      start += text.length + 1;
    }
    for (const columns of this.lines.values()) columns.sort((a, b) => a.column - b.column);
  }

  /** The last mapped place at or before this one; of a line that begins earlier, the line's first. */
  offsetOf(line: number, column: number): number | undefined {
    for (let l = line; l >= 0; l--) {
      const columns = this.lines.get(l);
      if (!columns) continue;
      const before = columns.filter((c) => l < line || c.column <= column);
      return (before.at(-1) ?? columns[0])?.offset;
    }
    return undefined;
  }
}
