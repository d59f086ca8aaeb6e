import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { projectRoot } from '../internal/local/project.js';

const GLOSSARY = 'docs/glossary.md';

/** Files and folders with the project's own text. */
const PLACES = [
  ...['api', 'bench', 'cmd', 'configs', 'deploy', 'docs', 'internal', 'migrations', 'test', '.ci', '.github'],
  ...['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', 'Makefile', 'Dockerfile', 'docker-compose.yml'],
  ...['openapi.yaml', '.dependency-cruiser.cjs'],
];

/** The glossary quotes the words; results are measurements; peers and vectors have other authors. */
const FOREIGN = /^(docs\/glossary\.md|bench\/results|bench\/peers|test\/vectors)(\/|$)/;
const TEXT = /(\.(ts|md|proto|lua|sql|yaml|yml|html|sh|cjs)|\/(run|breaking)|Makefile|Dockerfile)$/;

describe('The glossary', () => {
  const glossary = readFileSync(join(projectRoot, GLOSSARY), 'utf8');
  const phrases = wordsToAvoid(glossary, 'In code, comments, messages and documents');
  const names = wordsToAvoid(glossary, 'Declared names in TypeScript');

  it('names only files and folders that exist', () => {
    const paths = glossary.match(/(?<=`)(api|cmd|docs|internal|test)\/[^`\s]*(?=`)/g) ?? [];
    assert.ok(paths.length > 40, `only ${paths.length} paths found`);
    assert.deepEqual(
      paths.filter((path) => !existsSync(join(projectRoot, path))),
      [],
    );
  });

  it('is followed by all sources, documents and messages', () => {
    const files = PLACES.flatMap(filesUnder);
    assert.ok(files.length > 300, `only ${files.length} files found`);
    const found = files.flatMap((file) => {
      const text = readFileSync(join(projectRoot, file), 'utf8');
      const used = [...phrasesIn(text, phrases), ...(file.endsWith('.ts') ? namesIn(text, names) : [])];
      return used.map((use) => `${file}: ${use}`);
    });
    assert.deepEqual(found, []);
  });

  it('finds every word to avoid in a text that has it', () => {
    assert.ok(phrases.length > 0);
    for (const phrase of phrases) {
      assert.deepEqual(phrasesIn(`It says\n * ${phrase[0]?.toUpperCase()}${phrase.slice(1)}.`, [phrase]), [
        `2: ${phrase}`,
      ]);
      assert.deepEqual(phrasesIn(`x${phrase}x`, [phrase]), []);
    }
    for (const name of names) {
      assert.deepEqual(namesIn(`// ${name}\nclass A { ${name}() { return '${name}'; } }`, [name]), [`2: ${name}`]);
    }
  });
});

/** The first column of the table that follows a line with this beginning. */
function wordsToAvoid(glossary: string, heading: string): string[] {
  const lines = glossary.split('\n');
  const start = lines.findIndex((line) => line.startsWith(heading));
  assert.ok(start >= 0, `${GLOSSARY} has no table "${heading}"`);
  const table = lines.slice(start + 2);
  const end = table.findIndex((line) => !line.startsWith('|'));
  const rows = table.slice(2, end < 0 ? undefined : end);
  return rows.flatMap((row) => [...(row.split('|')[1] ?? '').matchAll(/`([^`]+)`/g)].map(([, word = '']) => word));
}

function filesUnder(path: string): string[] {
  const full = join(projectRoot, path);
  if (FOREIGN.test(path) || !existsSync(full)) return [];
  if (!statSync(full).isDirectory()) return TEXT.test(path) ? [path] : [];
  return readdirSync(full)
    .filter((name) => name !== 'node_modules')
    .flatMap((name) => filesUnder(`${path}/${name}`));
}

/** Uses of the phrases as `line: phrase`; a phrase may run over a line's end. */
function phrasesIn(text: string, wanted: readonly string[]): string[] {
  return wanted.flatMap((phrase) => {
    const gap = String.raw`(?:\s+(?:(?://|\*|--|#)\s*)?)`;
    const pattern = new RegExp(String.raw`(?<!\w)${phrase.split(' ').join(gap)}(?!\w)`, 'gi');
    return [...text.matchAll(pattern)].map(({ index }) => `${lineAt(text, index)}: ${phrase}`);
  });
}

/** Declarations with these names as `line: name`. */
function namesIn(text: string, wanted: readonly string[]): string[] {
  if (!wanted.some((name) => text.includes(name))) return [];
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    const { name } = node as ts.NamedDeclaration;
    if (name !== undefined && ts.isIdentifier(name) && wanted.includes(name.text) && !ts.isImportSpecifier(node)) {
      found.push(`${lineAt(text, name.getStart(source))}: ${name.text}`);
    }
    ts.forEachChild(node, visit);
  };
  const source = ts.createSourceFile('a.ts', text, ts.ScriptTarget.Latest);
  visit(source);
  return found;
}

function lineAt(text: string, index: number): number {
  return text.slice(0, index).split('\n').length;
}
