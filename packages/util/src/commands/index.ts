import type { Command } from '../command-line/command.ts';
import { genAppKeys, genCaCert, genRaCert } from './certificates.ts';
import { EVIDENCE_COMMANDS } from './evidence.ts';
import { EVIDENCE_FILE_COMMANDS } from './evidence-files.ts';
import { getKeysCommand } from './get-keys.ts';
import { hex, rand } from './plain.ts';
import { removeOrphans } from './remove-orphans.ts';
import { gatewayChecker, gatewayRefresh, hostShared, notifyHost, setup } from './system.ts';
import { tpmQuoteCommand, tpmVerify, vtpmAttest } from './tpm.ts';

/** The program. */
export const DSTACK_UTIL: Command = {
  name: 'dstack-util',
  about: 'dstack guest utility',
  options: [],
  commands: [
    EVIDENCE_COMMANDS.quote,
    EVIDENCE_COMMANDS.eventlog,
    EVIDENCE_COMMANDS.extend,
    EVIDENCE_COMMANDS.show,
    EVIDENCE_COMMANDS.replayImr,
    hex,
    genRaCert,
    genCaCert,
    genAppKeys,
    rand,
    setup,
    hostShared,
    gatewayRefresh,
    gatewayChecker,
    notifyHost,
    removeOrphans,
    vtpmAttest,
    tpmQuoteCommand,
    tpmVerify,
    EVIDENCE_COMMANDS.quoteReport,
    EVIDENCE_COMMANDS.attest,
    EVIDENCE_FILE_COMMANDS.info,
    EVIDENCE_FILE_COMMANDS.json,
    EVIDENCE_FILE_COMMANDS.strip,
    getKeysCommand,
  ],
};
