import type { ServiceImplementation } from '@dstack-cloud/prpc';

/** The machine that a call is about, for the log. */
export interface CallSubject {
  vm: string | undefined;
}

const MAX_ID = 64;

/** The same service; each call notes the id that it names, or that it answers with. */
export function namingSubject(service: ServiceImplementation<unknown>): ServiceImplementation<CallSubject> {
  const methods = Object.entries(service.methods).map(([name, run]) => [
    name,
    async (request: never, subject: CallSubject): Promise<unknown> => {
      subject.vm = idOf(request);
      const answer = await run(request, subject);
      subject.vm ??= idOf(answer);
      return answer;
    },
  ]);
  return { service: service.service, methods: Object.fromEntries(methods) };
}

function idOf(message: unknown): string | undefined {
  const { id } = (message ?? {}) as { id?: unknown };
  return typeof id === 'string' && id !== '' ? id.slice(0, MAX_ID) : undefined;
}
