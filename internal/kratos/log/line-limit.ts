interface Window {
  written: number;
  omitted: number;
}

export interface LineLimitOptions {
  /** Lines of one kind that are written in a window. */
  readonly lines: number;
  readonly windowMs: number;
  /** Called at the end of a window in which lines were omitted. */
  readonly report: (kind: string, omitted: number) => void;
}

/**
 * Limits the lines of each kind. Lines are written synchronously, so a flood of failures would otherwise stop the process
 * while another server is down. The number of kinds must be bounded.
 */
export class LineLimit {
  private readonly windows = new Map<string, Window>();

  constructor(private readonly options: LineLimitOptions) {}

  /** Whether to write a line. If not, it is counted. */
  admits(kind: string): boolean {
    const window = this.windowOf(kind);
    if (window.written >= this.options.lines) {
      window.omitted++;
      return false;
    }
    window.written++;
    return true;
  }

  /** Counts a line that is not written for another reason. */
  omit(kind: string): void {
    this.windowOf(kind).omitted++;
  }

  private windowOf(kind: string): Window {
    const current = this.windows.get(kind);
    if (current) return current;
    const window = { written: 0, omitted: 0 };
    this.windows.set(kind, window);
    setTimeout(() => {
      this.windows.delete(kind);
      if (window.omitted > 0) this.options.report(kind, window.omitted);
    }, this.options.windowMs).unref();
    return window;
  }
}
