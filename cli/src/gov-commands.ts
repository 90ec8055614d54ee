import type { Command } from 'commander';

type Load = () => Promise<unknown>;
type Add = (usage: string, summary: string, load: Load) => Command;

const OWN_HELP = `
Keys: PRIVATE_KEY in the environment, --key-file FILE (plain or encrypted), or --signer-url URL. There is no default key, and
none is ever an argument. Further endpoints in SECOND_RPC_URL, with commas between them, have to say the same as the first.`;

/** Options of every command that reads who governs, and its examples. */
export function withChainOptions(command: Command, examples: readonly string[]): Command {
  return command
    .option(
      '--network <NAME>',
      'test (RPC_URL), custom, phala, base, base-sepolia, sepolia (default: configuration)',
    )
    .option('--kms <ADDRESS>', 'DstackKms (default: governance file, KMS_CONTRACT_ADDRESS, configuration)')
    .option('--governance <FILE>', 'what was deployed (default: governance.json)')
    .option('--from-block <NUMBER>', 'where the contracts were deployed, or earlier')
    .option('--key-file <FILE>', 'key of the account, plain or encrypted')
    .option('--password-file <FILE>', 'password of the key file')
    .option('--signer-url <URL>', 'a service that holds the key and signs')
    .option('--from <ADDRESS>', 'which account of that service')
    .option('--service <URL>', 'Safe transaction service (or SAFE_SERVICE_URL), its key in SAFE_API_KEY')
    .option(
      '--max-block-age <SECONDS>',
      'refuse an endpoint whose newest block is older (default: 600; 0 for any)',
    )
    .option('--rpc-timeout <SECONDS>', 'give an endpoint up that takes longer for one answer (default: 20)')
    .option('--timeout <SECONDS>', 'give the whole command up after so long (default: 900)')
    .option('--max-cost <ETH>', 'refuse a transaction for which the endpoint asks more (default: 1)')
    .option('--dry-run', 'check and show everything; send, sign and write nothing')
    .addHelpText('after', `\nExamples:\n${examples.map((line) => `  ${line}`).join('\n')}\n${OWN_HELP}`);
}

/** Options of commands that may make a proposal. */
export function withProposalOptions(command: Command): Command {
  return command
    .option('--nonce <NUMBER>', 'nonce of the Safe transaction (default: the next)')
    .option('-o, --output <FILE>', 'file of the proposal (default: proposal-NONCE-HASH.json)');
}

/** The commands of `dstack-cloud gov`; each file is loaded only when it runs. */
export function addGovCommands(add: Add): void {
  const command = (usage: string, summary: string, load: Load, examples: readonly string[]): Command =>
    withChainOptions(add(usage, summary, load), examples).option(
      '--app <ADDRESS...>',
      'apps to look at (default: all that are registered)',
    );
  const proposing = (usage: string, summary: string, load: Load, examples: readonly string[]): Command =>
    withProposalOptions(command(usage, summary, load, examples));

  command(
    'deploy',
    'deploy a governance: one account, a Timelock, a Safe with a Timelock',
    () => import('./commands/gov-deploy.ts'),
    [
      'dstack-cloud gov deploy --model C --signer $A --signer $B --signer $C --threshold 2 --delay 86400 --guardian $G',
      'dstack-cloud gov deploy --model B --proposer $OPERATOR --executor anyone --delay 3600 --kms $KMS',
    ],
  )
    .option(
      '--model <NAME>',
      'A (one account), B (Timelock), C (Safe and Timelock), multisig (Safe without a delay)',
    )
    .option('--owner <ADDRESS>', 'model A: the owner (default: the account that deploys)')
    .option('--signer <ADDRESS...>', 'a signer of the new Safe; several')
    .option('--threshold <NUMBER>', 'signatures that the new Safe demands')
    .option('--safe <ADDRESS>', 'a Safe that exists')
    .option('--delay <SECONDS>', 'delay of the Timelock (or MIN_DELAY)')
    .option('--grace <SECONDS>', 'how long a ready operation can be executed (default: 1209600; 0 for ever)')
    .option('--proposer <ADDRESS>', 'model B: who proposes and cancels (or PROPOSER; default: the account)')
    .option('--executor <ADDRESS>', 'who executes, or anyone (or EXECUTOR; default: who proposes)')
    .option('--admin <ADDRESS>', 'who can change roles without delay (or ADMIN; default: nobody)')
    .option('--guardian <ADDRESS...>', 'who may revoke at once; several');
  proposing(
    'propose <ACTION...>',
    'propose a change: shown in words, tried on the chain, signed',
    () => import('./commands/gov-propose.ts'),
    [
      'dstack-cloud gov propose kms:add-image $OS_IMAGE_HASH',
      'dstack-cloud gov propose kms:add-image $OS_IMAGE_HASH + kms:add $MR + kms:add-device $DEVICE',
      'dstack-cloud gov propose app:add-hash --app-id $APP_ID $COMPOSE_HASH',
      'dstack-cloud gov propose kms:upgrade $IMPLEMENTATION',
      'dstack-cloud gov propose kms:add-image $OS_IMAGE_HASH --announce',
      'dstack-cloud gov propose signer:swap $LOST $NEW',
      '',
      'Actions are the calls of dstack-cloud kms and app by their names, several with + between them, and kms:upgrade,',
      'app:upgrade, kms:set-owner, app:set-owner, timelock:delay, timelock:grant, timelock:revoke, signer:add, signer:remove,',
      'signer:swap, signer:threshold, raw TO DATA, batch FILE.',
    ],
  )
    .allowUnknownOption()
    .option('--delay <SECONDS>', 'wait longer than the Timelock demands')
    .option('--after <OPERATION>', 'an operation that must be executed before')
    .option('--announce', 'make the calls public in contracts with a policy delay; repeat without it later')
    .option('--again', 'schedule or propose calls that wait already, or additions of what is allowed already')
    .option('--allow-debug', 'accept measurements of debug systems');
  command(
    'approve <PROPOSAL>',
    'sign a proposal: its file, or its hash with --service',
    () => import('./commands/gov-approve.ts'),
    [
      'dstack-cloud gov approve proposal-4-9c3619fa.json --key-file signer.json --password-file password',
      'dstack-cloud gov approve $SAFE_TX_HASH --service https://api.safe.global/tx-service/base/api',
      'dstack-cloud gov approve proposal-4-9c3619fa.json --on-chain',
      'dstack-cloud gov approve proposal-4-9c3619fa.json --offline --key-file signer.json --password-file password',
    ],
  )
    .alias('sign')
    .option('--offline', 'sign a file without a network: governance.json says which Safe, chain and signers')
    .option(
      '--on-chain',
      'call approveHash of the Safe instead of signing: everybody sees it, and it costs gas',
    );
  command(
    'submit <PROPOSAL>',
    'execute a Safe transaction that has enough signatures; mostly it schedules',
    () => import('./commands/gov-submit.ts'),
    [
      'dstack-cloud gov submit proposal-4-9c3619fa.json',
      'dstack-cloud gov schedule proposal-4-9c3619fa.json --dry-run',
    ],
  ).alias('schedule');
  proposing(
    'execute <OPERATION>',
    'execute an operation whose delay is over: its id, or the file that scheduled it',
    () => import('./commands/gov-execute.ts'),
    ['dstack-cloud gov execute $OPERATION', 'dstack-cloud gov execute proposal-4-9c3619fa.json'],
  );
  proposing(
    'cancel <OPERATION>',
    'take an operation out of the Timelock',
    () => import('./commands/gov-cancel.ts'),
    ['dstack-cloud gov cancel $OPERATION'],
  );
  proposing(
    'reject <PROPOSAL>',
    'propose nothing with the same nonce, so that a proposal can never be executed',
    () => import('./commands/gov-reject.ts'),
    ['dstack-cloud gov reject proposal-4-9c3619fa.json'],
  );
  command(
    'status',
    'who may do what and when it takes effect; what is under way',
    () => import('./commands/gov-status.ts'),
    ['dstack-cloud gov status --json'],
  ).alias('list');
  command(
    'health',
    'the health check: exit code 0, 1 for warnings, 2 for what is critical',
    () => import('./commands/gov-health.ts'),
    [
      'dstack-cloud gov health --governance governance.json',
      'dstack-cloud gov health --require-timelock 86400      as the key service demands it',
    ],
  ).option('--require-timelock <SECONDS>', 'what core.auth_api.chain.require_timelock of kms.toml says');
  proposing(
    'emergency-revoke <WHAT...>',
    'take something away: a guardian at once, a signer as a proposal',
    () => import('./commands/gov-revoke.ts'),
    [
      'dstack-cloud gov emergency-revoke image $OS_IMAGE_HASH',
      'dstack-cloud gov emergency-revoke compose-hash $COMPOSE_HASH --app-id $APP_ID',
      'dstack-cloud gov emergency-revoke everything',
      '',
      'What: image, mr, device, app, advisory, everything; compose-hash and app-device with --app-id.',
      'With a key that is not a guardian, it prepares the same revocation as a proposal and says when that can take effect.',
    ],
  )
    .option('--app-id <ADDRESS>', 'the app')
    .option('--again', 'propose a revocation that waits already');
}
