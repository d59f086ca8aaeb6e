import { type PathTemplate, type PathVariable, parsePathTemplate } from '../transcoder/path-template.js';

/** A part of a path that the caller provides. */
export interface PathParameter {
  readonly name: string;
  /** The template's variable; undefined for a wildcard that is not bound to a field. */
  readonly variable: PathVariable | undefined;
  /** Number of the wildcard within its variable, from 1; 0 if the variable has only one. */
  readonly index: number;
  /** Matches any number of segments. */
  readonly rest: boolean;
}

export interface OpenApiPath {
  readonly path: string;
  /** The path without parameter names. Paths of the same shape are the same path in OpenAPI. */
  readonly shape: string;
  readonly parameters: readonly PathParameter[];
  readonly template: PathTemplate;
}

/**
 * Converts a google.api.http path to OpenAPI: each wildcard becomes a parameter, literals stay, so
 * `/v1/{name=files/*}` becomes `/v1/files/{name}`.
 * @param renamed parameter names of an earlier path of the same shape
 */
export function openApiPath(source: string, renamed: readonly string[] = []): OpenApiPath {
  const template = parsePathTemplate(source);
  const parameters: PathParameter[] = [];
  const parts: string[] = [];
  const shape: string[] = [];
  template.segments.forEach((segment, i) => {
    if (segment.kind === 'literal') {
      parts.push(encodeURIComponent(segment.text));
      shape.push(encodeURIComponent(segment.text));
      return;
    }
    const variable = template.variables.find((v) => v.start <= i && i < v.end);
    const wildcards = variable
      ? template.segments.slice(variable.start, variable.end).filter((s) => s.kind !== 'literal').length
      : 0;
    const index = wildcards > 1 ? parameters.filter((p) => p.variable === variable).length + 1 : 0;
    const own = variable
      ? variable.fieldPath.join('.') + (index === 0 ? '' : `.${index}`)
      : `_${parameters.length + 1}`;
    const name = renamed[parameters.length] ?? own;
    parameters.push({ name, variable, index, rest: segment.kind === 'rest' });
    parts.push(`{${name}}`);
    shape.push('{}');
  });
  const verb = template.verb === '' ? '' : `:${template.verb}`;
  return { path: `/${parts.join('/')}${verb}`, shape: `/${shape.join('/')}${verb}`, parameters, template };
}
