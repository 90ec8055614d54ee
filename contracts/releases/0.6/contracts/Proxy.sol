// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

// The deployment tools need this artifact; OpenZeppelin's source is compiled with our settings.
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
