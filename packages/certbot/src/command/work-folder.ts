import { X509Certificate } from 'node:crypto';
import { existsSync, lstatSync } from 'node:fs';
import { mkdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { makeOwnDirectory, syncDirectory, temporaryName, writeSynced } from '@dstack-cloud/files';
import { type AcmeAccount, accountFromJson, accountToJson } from '../account.ts';
import { CertbotError } from '../errors.ts';
import type { Issued } from '../issue-certificate.ts';

/** What a command keeps: the account, every certificate that was issued, and which of them is live. */
export type WorkFolder = {
  /** @throws CertbotError `bad-credentials` */
  account(directoryUrl: string): Promise<(AcmeAccount & { readonly uri: string }) | undefined>;
  keepAccount(account: AcmeAccount & { readonly uri: string }): Promise<void>;
  /** Whether the live certificate is for exactly these names, and in force until then (Unix seconds). */
  isGood(names: readonly string[], until: number): Promise<boolean>;
  /** @returns the folder of the certificate, which is live now */
  keep(issued: Issued): Promise<string>;
};

/** @throws FilesError when the folder is somebody else's or open to others */
export function openWorkFolder(folder: string): WorkFolder {
  makeOwnDirectory(folder);
  const at = (...names: string[]): string => join(folder, ...names);
  if (existsSync(at('live')) && !lstatSync(at('live')).isSymbolicLink())
    throw new CertbotError(
      'bad-credentials',
      `${at('live')} is no link to a certificate that was kept; move it away`,
    );

  return {
    account: async (directoryUrl) => {
      const path = at('credentials.json');
      return existsSync(path) ? accountFromJson(await readFile(path, 'utf8'), directoryUrl) : undefined;
    },
    keepAccount: async (account) => {
      const temporary = at(temporaryName('credentials.json'));
      await writeSynced(temporary, accountToJson(account), 0o600);
      await rename(temporary, at('credentials.json'));
      await syncDirectory(folder);
    },
    isGood: async (names, until) => {
      const path = at('live', 'cert.pem');
      if (!existsSync(path)) return false;
      const certificate = new X509Certificate(await readFile(path));
      const found = (certificate.subjectAltName ?? '').split(', ').map((name) => name.replace(/^DNS:/, ''));
      const same = JSON.stringify(found.sort()) === JSON.stringify([...names].sort());
      return same && Date.parse(certificate.validTo) / 1000 > until;
    },
    keep: async ({ certChain, key }) => {
      const name = `backup/${new Date().toISOString()}`;
      await mkdir(at(name), { recursive: true, mode: 0o700 });
      await writeSynced(at(name, 'key.pem'), key, 0o600);
      await writeSynced(at(name, 'cert.pem'), certChain, 0o600);
      await syncDirectory(at(name));
      // One link for both, so that nobody ever sees a certificate with the key of another.
      const temporary = at(temporaryName('live'));
      await symlink(name, temporary);
      try {
        await rename(temporary, at('live'));
      } catch (error) {
        await rm(temporary, { force: true });
        throw error;
      }
      await syncDirectory(folder);
      return at(name);
    },
  };
}
