type Task = () => Promise<unknown> | unknown;

/** What must be undone, undone in reverse order; a task that fails does not keep the others from running. */
export class Cleanup {
  readonly #tasks: Task[] = [];

  add(task: Task): void {
    this.#tasks.push(task);
  }

  async run(): Promise<void> {
    for (let task = this.#tasks.pop(); task !== undefined; task = this.#tasks.pop()) {
      try {
        await task();
      } catch (error) {
        process.stderr.write(`Clean-up: ${error instanceof Error ? error.message : String(error)}\n`);
      }
    }
  }
}
