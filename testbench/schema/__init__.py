"""What all phases share: the data contract, its files, the runtime that walks it and the protocols to the outside."""
