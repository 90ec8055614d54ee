// Reads many contracts in one eth_call without a contract of ours on the chain: it runs as the code of a contract
// creation that is only simulated, and what it returns is the answer. Compiled by solc 0.8.24 (paris, optimizer 1 run);
// multicall-code.ts has the result, and its test compares them.
//
// Behind the code: entries of target (20 bytes), gas limit (3), length (2), call data.
// Returned: a zero byte, because code must not begin with 0xEF (EIP-3541); then for each entry a status byte and a word:
// 0 failed or of no use, 1 the 32 bytes it returned, 2 the Keccak-256 of what it returned. What a contract returns is
// never copied beyond 4096 bytes, and it gets the gas of its limit, so that none can take anything from the next.
// When the gas left does not suffice for a limit (EIP-150), it ends: later entries are missing from the answer.
object "Multicall" {
  code {
    let begin := datasize("Multicall")
    let size := sub(codesize(), begin)
    codecopy(0, begin, size)
    mstore8(size, 0)
    let out := add(size, 1)
    let at := 0
    for { } lt(at, size) { } {
      let head := mload(at)
      let limit := and(shr(72, head), 0xffffff)
      let length := and(shr(56, head), 0xffff)
      at := add(at, 25)
      if lt(gas(), add(add(limit, div(limit, 63)), 10000)) { break }
      let ok := staticcall(limit, shr(96, head), at, length, 0, 0)
      at := add(at, length)
      let n := returndatasize()
      let status := 0
      let word := 0
      if and(ok, lt(sub(n, 1), 4096)) {
        let copy := add(out, 33)
        returndatacopy(copy, 0, n)
        switch n
        case 32 { status := 1  word := mload(copy) }
        default { status := 2  word := keccak256(copy, n) }
      }
      mstore8(out, status)
      mstore(add(out, 1), word)
      out := add(out, 33)
    }
    return(size, sub(out, size))
  }
}
