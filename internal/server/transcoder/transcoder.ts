export { TranscodeError } from './transcode-error.js';
export type * from './types.js';
