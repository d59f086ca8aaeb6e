import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { projectRoot } from '../internal/local/project.js';

/**
 * Names the class members that stand for a member of their base class without `override`. TypeScript's
 * `noImplicitOverride` leaves out members that implement an abstract one, and those are nearly all of them here: ports
 * are abstract classes. Works on syntax alone, since a type check would take ten times as long; class names are unique
 * in the project.
 */
function missingOverrides(files: ReadonlyMap<string, string>): string[] {
  const classes = new Map<string, { file: string; node: ts.ClassLikeDeclaration }>();
  for (const [file, text] of files) {
    const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
    const visit = (node: ts.Node) => {
      if (ts.isClassLike(node) && node.name) classes.set(node.name.text, { file, node });
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  const inherited = (name: string | undefined): Set<string> => {
    const found = name === undefined ? undefined : classes.get(name);
    if (!found) return new Set();
    const own = found.node.members.flatMap((member) => overridable(member) ?? []);
    return new Set([...own, ...inherited(baseOf(found.node))]);
  };
  const missing: string[] = [];
  for (const [name, { file, node }] of classes) {
    const base = inherited(baseOf(node));
    for (const member of node.members) {
      const memberName = overridable(member);
      if (memberName === undefined || !base.has(memberName)) continue;
      if (!hasModifier(member, ts.SyntaxKind.OverrideKeyword)) missing.push(`${file}: ${name}.${memberName}`);
    }
  }
  return missing.sort();
}

function baseOf(node: ts.ClassLikeDeclaration): string | undefined {
  const clause = node.heritageClauses?.find(({ token }) => token === ts.SyntaxKind.ExtendsKeyword);
  return clause?.types[0]?.expression.getText();
}

function overridable(member: ts.ClassElement): string | undefined {
  if (!member.name || ts.isPrivateIdentifier(member.name)) return undefined;
  const excluded = [ts.SyntaxKind.StaticKeyword, ts.SyntaxKind.PrivateKeyword];
  return excluded.some((kind) => hasModifier(member, kind)) ? undefined : member.name.getText();
}

function hasModifier(member: ts.ClassElement, kind: ts.SyntaxKind): boolean {
  return ts.canHaveModifiers(member) && (ts.getModifiers(member) ?? []).some((modifier) => modifier.kind === kind);
}

function sources(): Map<string, string> {
  const files = ['bench', 'cmd', 'internal', 'test'].flatMap((folder) =>
    readdirSync(join(projectRoot, folder), { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file)),
  );
  const typescript = files.filter((file) => file.endsWith('.ts') && !/(^|\/)(node_modules|peers)\//.test(file));
  return new Map(typescript.map((file) => [file, readFileSync(join(projectRoot, file), 'utf8')]));
}

describe('The override modifier', () => {
  it('marks every member that overrides or implements a member of its base class', () => {
    assert.deepEqual(missingOverrides(sources()), []);
  });

  it('is reported as missing where a class implements an abstract member of a base class in another file', () => {
    const port = 'abstract class Port { abstract read(): string; private secret() {} static make() {} }';
    const adapter = `
      class Middle extends Port { override read() { return ''; } close() {} }
      class Adapter extends Middle { read() { return 'x'; } override close() {} private secret() {} static make() {} own() {} }`;
    const files = new Map([
      ['port.ts', port],
      ['adapter.ts', adapter],
    ]);
    assert.deepEqual(missingOverrides(files), ['adapter.ts: Adapter.read']);
  });
});
