"""The Container Network Interface: our plugin with its addresses, and what runs any plugin for the agent's pods."""
