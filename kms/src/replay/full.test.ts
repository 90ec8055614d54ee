/** The larger recording (image verification and self-authorisation on), replayed against ours. */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask } from '../test/ask.ts';
import { fullClients, fullEvidence, fullItems } from '../test/recorded-full.ts';
import { type RecordedKms, startRecordedKms } from '../test/recorded-kms.ts';
import { replay } from '../test/replay-item.ts';
import { exchanges, type RecordedFile } from '../test/replay-plan.ts';

describeWithFixtures('replay of kms-original/full', 'kms-original/full/main-rpc.json', () => {
  const evidence = fullEvidence();
  const clients = fullClients(evidence);
  let kms: RecordedKms;
  beforeAll(async () => {
    kms = await startRecordedKms();
  });
  afterAll(() => kms.close());

  describe('recorded guests', () => {
    // app2 has no event instance-id, which ours demands; appbadid was refused there too.
    const guests = evidence.clients.filter(({ name }) => !['app2', 'appbadid'].includes(name));
    test.each(guests)(
      '$name gets the recorded keys, and the auth API hears the same of it',
      async (guest) => {
        kms.webhook.policy = {};
        kms.webhook.asked.length = 0;
        kms.clock.now = evidence.now;
        const answer = await ask(kms.running.main.port, '/prpc/GetAppKey?json', {
          body: '{"api_version":1,"vm_config":""}',
          client: clients[guest.name],
        });
        expect([guest.name, answer.status, answer.status === 200 ? '' : answer.body.toString()]).toEqual([
          guest.name,
          200,
          '',
        ]);
        const { ca_cert: _cert, ...keys } = guest.response;
        expect(JSON.parse(answer.body.toString())).toMatchObject(keys);
        const asked = kms.webhook.asked.find(({ path }) => path === '/bootAuth/app');
        expect(JSON.parse(asked?.body ?? 'null')).toMatchObject(guest.boot_auth_app_body[0]!);
      },
    );
  });

  describe.each<RecordedFile>(['main-rpc', 'mtls-rpc', 'signcert', 'nitro'])('%s', (file) => {
    test.each(exchanges(file))('$id', (item) =>
      replay(kms, file, item, { port: kms.running.main.port, plain: false }),
    );
  });

  describe('admin', () => {
    const names = (folder: string): string[] => {
      const path = join(kms.directory, 'cache', folder);
      return existsSync(path) ? readdirSync(path).sort() : [];
    };
    beforeAll(() => {
      for (const folder of ['images/cafe', 'images/tmp', 'measurements']) {
        mkdirSync(join(kms.directory, 'cache', folder), { recursive: true });
      }
      writeFileSync(join(kms.directory, 'cache/measurements/beef.json'), '{}');
    });
    const looks: Record<string, (item: unknown) => void> = {
      'after-clear-hex': (item) => {
        // There `beef` names no file any more; ours takes a measurement by its name with and without `.json` (5.11).
        expect(item).toMatchObject({ images: names('images'), measurements: ['beef.json'] });
        expect(names('measurements')).toEqual([]);
      },
      'after-all': () => expect([names('images'), names('measurements')]).toEqual([[], []]),
    };
    test.each(fullItems('admin'))('$id', async (item) => {
      const look = looks[item.id];
      if (look !== undefined) look(item);
      else await replay(kms, 'admin', item, { port: kms.running.admin!.port, plain: true });
    });
  });
});
