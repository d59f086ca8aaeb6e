import ts from 'typescript';

/** One small change of a source file that a test should notice. */
export interface Mutant {
  /** Relative to the project. */
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly operator: string;
  readonly before: string;
  readonly after: string;
  /** The range of the source that `after` replaces. */
  readonly start: number;
  readonly end: number;
}

type Replacement = Omit<Mutant, 'file' | 'line'>;

/** Every mutant of a file, in the order of the source; none for a kind of file that is not mutated. */
export function mutantsOf(file: string, text: string): readonly Mutant[] {
  const found = file.endsWith('.ts')
    ? typescriptMutants(file, text)
    : file.endsWith('.lua')
      ? luaMutants(text)
      : file.endsWith('.sql')
        ? sqlMutants(withoutComments(text, '--'), 0)
        : [];
  return found
    .map((r) => ({ file, line: text.slice(0, r.start).split('\n').length, ...r }))
    .sort((a, b) => a.start - b.start || a.operator.localeCompare(b.operator));
}

export function mutate(text: string, { start, end, after }: Mutant): string {
  return text.slice(0, start) + after + text.slice(end);
}

const COMPARISONS: Readonly<Record<string, string>> = {
  '===': '!==',
  '!==': '===',
  '<': '<=',
  '<=': '<',
  '>': '>=',
  '>=': '>',
};
const OTHER_OPERATORS: Readonly<Record<string, string>> = {
  '&&': '||',
  '||': '&&',
  '+': '-',
  '-': '+',
  '*': '/',
  '/': '*',
  '+=': '-=',
  '-=': '+=',
};
/** Calls without an effect that a test should pin down: texts for people, and hints to the runtime. */
const INCIDENTAL =
  /^(this\.)?(#?log|#?logger|options\.logger|console|process\.std)\b|\.(unref|removeListener|destroy)\(|^clearT/;
/** An Error without a reason reports a mistake of this program, which no input reaches. */
const ASSERTION = /^throw new Error\(/;
/** A duration or a bound on resources, which only a timed or a very large test could tell from another. */
const INCIDENTAL_CONSTANT = /_(MS|S|BYTES)$|MAX|MOST|TIMEOUT|BUCKETS|^buckets$/;

function typescriptMutants(file: string, text: string): Replacement[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const found: Replacement[] = [];
  const replace = (operator: string, node: ts.Node, after: string): void => {
    const start = node.getStart(source);
    found.push({ operator, start, end: node.end, before: text.slice(start, node.end), after });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isTypeNode(node) || ts.isImportDeclaration(node) || ts.isInterfaceDeclaration(node)) return;
    if (ts.isIfStatement(node) || ts.isWhileStatement(node)) {
      replace('negate a condition', node.expression, `!(${node.expression.getText(source)})`);
    }
    if (ts.isConditionalExpression(node)) {
      replace('negate a condition', node.condition, `!(${node.condition.getText(source)})`);
    }
    if (ts.isBinaryExpression(node)) {
      const operator = node.operatorToken.getText(source);
      const comparison = COMPARISONS[operator];
      if (comparison) replace('swap a comparison', node.operatorToken, comparison);
      const other = OTHER_OPERATORS[operator];
      const joinsText = operator.startsWith('+') && /['"`]/.test(node.getText(source));
      if (other && !joinsText) replace('swap an operator', node.operatorToken, other);
      if (operator === '??') replace('drop a default', node, node.left.getText(source));
    }
    if (ts.isExpressionStatement(node) && !INCIDENTAL.test(node.getText(source))) {
      const isSuper = node.expression.getText(source).startsWith('super(');
      const isHook = ts.isCallExpression(node.expression) && node.parent.kind === ts.SyntaxKind.SourceFile;
      if (!isSuper && !isHook) replace('drop a statement', node, ';');
    }
    const isThrow = ts.isThrowStatement(node) && !ASSERTION.test(node.getText(source));
    if (ts.isContinueStatement(node) || (ts.isReturnStatement(node) && !node.expression) || isThrow) {
      replace('drop a statement', node, ';');
    }
    if (ts.isNumericLiteral(node) && !isIncidental(node, source)) {
      replace('change a constant', node, node.text === '0' ? '1' : `(${node.getText(source)} + 1)`);
    }
    if (ts.isBigIntLiteral(node) && ts.isExpression(node)) {
      replace('change a constant', node, `(${node.getText(source)} + 1n)`);
    }
    if (node.kind === ts.SyntaxKind.TrueKeyword) replace('change a constant', node, 'false');
    if (node.kind === ts.SyntaxKind.FalseKeyword) replace('change a constant', node, 'true');
    if (ts.isPropertyAccessExpression(node) && node.expression.getText(source) === 'Math') {
      const swapped: Readonly<Record<string, string>> = { min: 'max', max: 'min', floor: 'ceil', ceil: 'floor' };
      const other = swapped[node.name.text];
      if (other) replace('swap an operator', node.name, other);
    }
    if (ts.isTemplateExpression(node) || ts.isNoSubstitutionTemplateLiteral(node)) {
      const start = node.getStart(source);
      const sql = text.slice(start, node.end);
      if (/^`\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b/.test(sql)) found.push(...sqlMutants(sql, start));
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

function isIncidental(literal: ts.NumericLiteral, source: ts.SourceFile): boolean {
  for (let node: ts.Node = literal; node; node = node.parent) {
    if (ts.isEnumDeclaration(node)) return true;
    if (ts.isVariableDeclaration(node) || ts.isPropertyAssignment(node) || ts.isPropertyDeclaration(node)) {
      return INCIDENTAL_CONSTANT.test(node.name.getText(source));
    }
    if (ts.isStatement(node)) return false;
  }
  return false;
}

const LUA: readonly (readonly [operator: string, pattern: RegExp, after: string])[] = [
  ['swap a comparison', / == /g, ' ~= '],
  ['swap a comparison', / ~= /g, ' == '],
  ['swap a comparison', / < /g, ' <= '],
  ['swap a comparison', / <= /g, ' < '],
  ['swap a comparison', / > /g, ' >= '],
  ['swap a comparison', / >= /g, ' > '],
  ['swap an operator', / and /g, ' or '],
  ['swap an operator', / or /g, ' and '],
  ['swap an operator', / \+ /g, ' - '],
  ['swap an operator', / - /g, ' + '],
  ['negate a condition', /(?<=\b(if|while) )not /g, ''],
  ['drop a statement', /(?<=^\s*)redis\.call\([^\n]*\)(?=\s*$)/gm, ''],
];

function luaMutants(text: string): Replacement[] {
  return byPattern(withoutComments(text, '--'), LUA, 0);
}

const SQL: typeof LUA = [
  ['swap an operator', /\bAND\b(?! \$\d)/g, 'OR'],
  ['swap a comparison', / <= /g, ' < '],
  ['swap a comparison', / >= /g, ' > '],
  ['swap a comparison', / < /g, ' <= '],
  ['swap a comparison', / > /g, ' >= '],
  ['swap a comparison', / <> /g, ' = '],
  ['swap a comparison', /(?<=\b(WHERE|AND|ON)\b [a-z_.]+) = /g, ' <> '],
  ['negate a condition', /\bIS NULL\b/g, 'IS NOT NULL'],
  ['negate a condition', /\bIS NOT NULL\b/g, 'IS NULL'],
  ['swap an operator', /(?<=[a-z_.]+) \+ (?=[a-z_.$])/g, ' - '],
  ['swap an operator', /(?<=[a-z_.]+) - (?=[a-z_.$])/g, ' + '],
  ['change an order', / DESC\b/g, ''],
  ['drop a clause', /\bFOR UPDATE( OF [a-z_]+)?( SKIP LOCKED)?/g, ''],
  ['drop a clause', / SKIP LOCKED/g, ''],
  ['drop a clause', /\bON CONFLICT[^`]* DO NOTHING/g, ''],
  ['drop a clause', /\bLEFT JOIN\b(?! LATERAL)/g, 'JOIN'],
  ['drop a clause', /(?<=[a-z)] )CHECK \((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)/g, ''],
  ['drop a clause', /\bUNIQUE INDEX\b/g, 'INDEX'],
];

/** @param offset of `sql` in its file */
function sqlMutants(sql: string, offset: number): Replacement[] {
  return byPattern(sql, SQL, offset);
}

function byPattern(text: string, table: typeof LUA, offset: number): Replacement[] {
  return table.flatMap(([operator, pattern, after]) =>
    [...text.matchAll(pattern)].map((match) => ({
      operator,
      start: offset + match.index,
      end: offset + match.index + match[0].length,
      before: match[0],
      after,
    })),
  );
}

/** The same length, so that positions stay. */
function withoutComments(text: string, mark: string): string {
  return text
    .split('\n')
    .map((line) => {
      const at = line.indexOf(mark);
      return at < 0 ? line : line.slice(0, at).padEnd(line.length, ' ');
    })
    .join('\n');
}
