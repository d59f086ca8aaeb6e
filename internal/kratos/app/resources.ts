/** What a process opened and has to close at its end: pools, connections, channels. */
export class Resources {
  private readonly open: { readonly name: string; readonly close: () => Promise<void> }[] = [];

  /** Gives a resource to be closed after every server has stopped, the last one first. */
  add(name: string, close: () => Promise<void>): void {
    this.open.push({ name, close });
  }

  /** Closes everything, also past failures; these are thrown together at the end. */
  async close(): Promise<void> {
    const errors: Error[] = [];
    for (let r = this.open.pop(); r; r = this.open.pop()) {
      try {
        await r.close();
      } catch (err) {
        errors.push(new Error(`cannot close ${r.name}`, { cause: err }));
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, errors.map((e) => e.message).join('; '));
  }
}
